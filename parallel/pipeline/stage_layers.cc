#include "parallel/pipeline/stage_layers.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace strake {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Cuts of layers into stages, by dynamic programming over the number of stages.
class Cuts {
 public:
  Cuts(const LayerCosts& costs, int stages, int64_t min_layers)
      : costs_(costs), stages_(stages), min_layers_(min_layers), sums_(costs.layers.size() + 1) {
    std::partial_sum(costs.layers.begin(), costs.layers.end(), sums_.begin() + 1);
  }

  // Joins what two groups of stages cost.
  using Join = std::function<double(double, double)>;

  // The number of layers of each stage, with the least joined `measure` of the stages' costs.
  std::vector<int64_t> Best(const std::function<double(double)>& measure, const Join& join) const {
    const int64_t n = num_layers();
    // [s][i]: the first s stages have the first i layers.
    std::vector<std::vector<double>> best(stages_ + 1, std::vector<double>(n + 1, kInfinity));
    std::vector<std::vector<int64_t>> begins(stages_ + 1, std::vector<int64_t>(n + 1, 0));
    best[0][0] = 0;
    for (int s = 1; s <= stages_; ++s) {
      for (int64_t end = s * min_layers_; end <= n; ++end) {
        for (int64_t begin = (s - 1) * min_layers_; begin <= end - min_layers_; ++begin) {
          const double all = join(best[s - 1][begin], measure(Cost(s - 1, begin, end)));
          if (all >= best[s][end]) continue;
          best[s][end] = all;
          begins[s][end] = begin;
        }
      }
    }
    std::vector<int64_t> counts(stages_);
    for (int64_t s = stages_, end = n; s > 0; end = begins[s][end], --s) {
      counts[s - 1] = end - begins[s][end];
    }
    return counts;
  }

  double Dearest(const std::vector<int64_t>& counts) const {
    double dearest = 0;
    for (int64_t stage = 0, begin = 0; stage < stages_; begin += counts[stage++]) {
      dearest = std::max(dearest, Cost(static_cast<int>(stage), begin, begin + counts[stage]));
    }
    return dearest;
  }

 private:
  int64_t num_layers() const { return static_cast<int64_t>(costs_.layers.size()); }

  double Cost(int stage, int64_t begin, int64_t end) const {
    return sums_[end] - sums_[begin] + (stage == 0 ? costs_.first : 0) +
           (stage == stages_ - 1 ? costs_.last : 0);
  }

  const LayerCosts& costs_;
  const int stages_;
  const int64_t min_layers_;
  std::vector<double> sums_;  // of the first layers
};

std::vector<int64_t> LayersOfStages(const LayerCosts& costs, int stages, int chunks) {
  const Cuts cuts(costs, stages, chunks);
  const double dearest = cuts.Dearest(cuts.Best([](double cost) { return cost; },
                                                [](double a, double b) { return std::max(a, b); }));
  // Sums of the same layers differ by roundings.
  const double limit = dearest * (1 + 1e-12);
  return cuts.Best([limit](double cost) { return cost > limit ? kInfinity : cost * cost; },
                   std::plus<double>());
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> SpreadLayers(const LayerCosts& costs, int stages, int chunks) {
  const int64_t num_layers = static_cast<int64_t>(costs.layers.size());
  if (num_layers < int64_t{stages} * chunks) {
    return absl::InvalidArgumentError(absl::StrCat(
        num_layers, " layers cannot be spread over ", stages, " stages",
        chunks > 1 ? absl::StrCat(" of ", chunks, " chunks") : "", "; at most ",
        std::max<int64_t>(1, num_layers / chunks), " stages have a layer in each part"));
  }
  LayerCosts even = costs;
  if (chunks > 1) {
    const double sum = std::accumulate(costs.layers.begin(), costs.layers.end(), 0.0);
    std::fill(even.layers.begin(), even.layers.end(), sum / static_cast<double>(num_layers));
  }
  const std::vector<int64_t> of_stages = LayersOfStages(even, stages, chunks);
  std::vector<int64_t> counts;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    for (const int64_t layers : of_stages) {
      counts.push_back(layers / chunks + (chunk < layers % chunks ? 1 : 0));
    }
  }
  return counts;
}

absl::Status CheckStageLayers(absl::Span<const int64_t> counts, int64_t num_layers, int stages,
                              int chunks) {
  const absl::int128 sum = std::accumulate(counts.begin(), counts.end(), absl::int128{0});
  const bool positive = std::all_of(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
  const int64_t num_parts = int64_t{stages} * chunks;
  if (positive && sum == num_layers && static_cast<int64_t>(counts.size()) == num_parts) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "the layers %s are %d parts of %d layers, but the model has %d layers, in %d %s of at least "
      "one",
      absl::StrJoin(counts, ","), counts.size(), sum, num_layers, num_parts,
      chunks > 1 ? "parts" : "stages"));
}

LayerRange LayersOfPart(absl::Span<const int64_t> counts, int part) {
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + part, int64_t{0});
  return {begin, begin + counts[part]};
}

}  // namespace strake
