#include "tools/checking/check_shards.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "absl/functional/function_ref.h"
#include "core/base/dtype.h"
#include "glog/logging.h"

namespace strake {

// Neighbours in a row of a tensor.
struct ElementRun {
  const std::string& name;
  const SegmentSlice& slice;
  int num_copies;      // that a data-parallel rank's group of ranks has
  int64_t full_index;  // of the first in the whole tensor
  int64_t index;       // of it in the index space
  int64_t count;
};

namespace {

constexpr int16_t kUntouched = std::numeric_limits<int16_t>::min();
// Relative to the largest gradient of a model: a number below this is f64's rounding of 0.
constexpr double kZero = 0x1p-40;

template <typename T>
uint32_t Bits(T x) {
  return std::bit_cast<uint32_t>(static_cast<float>(x));
}

// Calls visit() for each run, restricted to `range` of the index space.
void ForEachRun(const ParameterArena& arena, const ShardRange& range,
                absl::FunctionRef<void(const ElementRun&)> visit) {
  for (const ParameterRecord& record : arena.records()) {
    // A tied table is on the first stage and the last.
    const int stages = record.own_bucket ? 2 : 1;
    int64_t column = record.offset;
    for (const ParameterSegment& segment : record.segments) {
      const SegmentSlice& slice = segment.slice;
      for (int64_t row = 0; row < slice.num_rows; ++row) {
        const int64_t at = column + row * record.shape().back();
        const int64_t begin = std::max(at, range.begin);
        const int64_t end = std::min(at + segment.columns, range.end);
        if (begin >= end) continue;
        visit({.name = segment.name,
               .slice = slice,
               .num_copies = slice.num_holders * stages,
               .full_index =
                   (slice.row_begin + row) * slice.full_columns + slice.column_begin + begin - at,
               .index = begin,
               .count = end - begin});
      }
      column += segment.columns;
    }
  }
}

}  // namespace

WholeTensors::WholeTensors(const ParameterArena& arena, const Tensor& array) {
  const double* elements = array.data<double>();
  Entry* entry = nullptr;
  const auto add = [&](const ElementRun& run) {
    const SegmentSlice& slice = run.slice;
    if (by_name_.count(run.name) == 0) {
      entry = &entries_.emplace_back();
      entry->name = run.name;
      entry->shape = slice.full_rows == 1 ? Shape{slice.full_columns}
                                          : Shape{slice.full_rows, slice.full_columns};
      entry->values.resize(slice.full_rows * slice.full_columns);
      by_name_[run.name] = entry;
    }
    for (int64_t i = 0; i < run.count; ++i) {
      const double value = elements[run.index + i];
      entry->values[run.full_index + i] = value;
      if (std::isfinite(value)) entry->max_abs = std::max(entry->max_abs, std::abs(value));
    }
  };
  ForEachRun(arena, {0, arena.num_elements()}, add);
  for (const Entry& e : entries_) max_abs_ = std::max(max_abs_, e.max_abs);
}

int64_t WholeTensors::num_elements() const {
  int64_t sum = 0;
  for (const Entry& entry : entries_) sum += static_cast<int64_t>(entry.values.size());
  return sum;
}

double WholeTensors::Norm() const {
  double sum = 0;
  for (const Entry& entry : entries_) {
    for (const double x : entry.values) sum += x * x;
  }
  return std::sqrt(sum);
}

double WholeTensors::ScaleOf(const Entry& entry) const {
  return entry.max_abs <= kZero * max_abs_ ? max_abs_ : entry.max_abs;
}

std::vector<double> WholeTensors::RelativeErrors(const ParameterArena& arena,
                                                 const Tensor& array) const {
  const double* elements = array.data<double>();
  std::map<std::string, LargestDifference> differences;
  ForEachRun(arena, {0, arena.num_elements()}, [&](const ElementRun& run) {
    const double* truth = by_name_.at(run.name)->values.data() + run.full_index;
    LargestDifference& difference = differences[run.name];
    for (int64_t i = 0; i < run.count; ++i) {
      difference.Add(elements[run.index + i], truth[i], run.full_index + i);
    }
  });
  std::vector<double> errors;
  for (const Entry& entry : entries_) {
    errors.push_back(differences.at(entry.name).RelativeTo(ScaleOf(entry)));
  }
  return errors;
}

ShardComparison::ShardComparison(const WholeTensors* truth, int dp_copies)
    : truth_(truth), dp_copies_(dp_copies) {
  for (const WholeTensors::Entry& entry : truth->entries()) {
    states_[entry.name] = {.truth = &entry,
                           .difference = {},
                           .first = std::vector<float>(entry.values.size()),
                           .expected = std::vector<int16_t>(entry.values.size(), kUntouched)};
  }
  coverage_.num_elements = truth->num_elements();
}

void ShardComparison::Add(int rank, const ParameterArena& arena, const ShardRange& range,
                          const Tensor& array) {
  CHECK_EQ(array.num_elements(), range.size()) << "[check] " << array.ToString();
  if (array.dtype() == DType::kBf16) return AddElements(rank, arena, range, array.data<Bf16>());
  AddElements(rank, arena, range, array.data<float>());
}

template <typename T>
void ShardComparison::AddElements(int rank, const ParameterArena& arena, const ShardRange& range,
                                  const T* elements) {
  // Elements that no run covers are padding, or a gap between parameters.
  std::vector<bool> covered(range.size());
  ForEachRun(arena, range, [&](const ElementRun& run) {
    const int64_t at = run.index - range.begin;
    std::fill_n(covered.begin() + at, run.count, true);
    AddRun(rank, run, elements + at);
  });
  for (int64_t i = 0; i < range.size(); ++i) {
    if (!covered[i] && Bits(elements[i]) != 0) ++coverage_.num_dirty;
  }
}

template <typename T>
void ShardComparison::AddRun(int rank, const ElementRun& run, const T* values) {
  State& state = states_.at(run.name);
  const auto expected = static_cast<int16_t>(run.num_copies * dp_copies_);
  for (int64_t i = 0; i < run.count; ++i) {
    const int64_t at = run.full_index + i;
    const float value = static_cast<float>(values[i]);
    state.difference.Add(value, state.truth->values[at], at, rank);
    if (state.expected[at] == kUntouched) {
      state.expected[at] = expected;
      state.first[at] = value;
    }
    --state.expected[at];
    if (Bits(state.first[at]) != Bits(value)) ++coverage_.num_different;
  }
  coverage_.num_comparisons += run.count;
}

std::vector<CheckLine> ShardComparison::Lines(const std::string& what,
                                              const std::vector<double>& tolerances) const {
  std::vector<CheckLine> lines;
  for (const WholeTensors::Entry& entry : truth_->entries()) {
    const LargestDifference& difference = states_.at(entry.name).difference;
    lines.push_back({.name = entry.name,
                     .tensor = what,
                     .shape = entry.shape,
                     .error = difference.RelativeTo(truth_->ScaleOf(entry)),
                     .tolerance = tolerances.at(lines.size()),
                     .index = Coordinates(difference.index(), entry.shape),
                     .rank = difference.rank()});
  }
  return lines;
}

ShardCoverage ShardComparison::Coverage() const {
  ShardCoverage coverage = coverage_;
  for (const auto& [name, state] : states_) {
    coverage.num_missed += std::count_if(state.expected.begin(), state.expected.end(),
                                         [](int16_t left) { return left != 0; });
  }
  return coverage;
}

}  // namespace strake
