#include "tools/check_shards.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "absl/functional/function_ref.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr int16_t kUntouched = std::numeric_limits<int16_t>::min();
// Against the largest gradient of a model: below this a number is f64's rounding of 0.
constexpr double kZero = 0x1p-40;

// visit(segment, full_index, index, count): `count` neighbours of a row, from `full_index` of the
// whole tensor and `index` of the index space, cut to `range`.
void ForEachRun(const ParameterArena& arena, const ShardRange& range,
                absl::FunctionRef<void(const ParameterSegment&, int64_t, int64_t, int64_t)> visit) {
  for (const Parameter& parameter : arena.parameters()) {
    int64_t column = parameter.offset;
    for (const ParameterSegment& segment : parameter.segments) {
      const SegmentSlice& slice = segment.slice;
      for (int64_t row = 0; row < slice.num_rows; ++row) {
        const int64_t at = column + row * parameter.shape.back();
        const int64_t begin = std::max(at, range.begin);
        const int64_t end = std::min(at + segment.columns, range.end);
        if (begin >= end) continue;
        visit(segment,
              (slice.row_begin + row) * slice.full_columns + slice.column_begin + begin - at, begin,
              end - begin);
      }
      column += segment.columns;
    }
  }
}

}  // namespace

WholeTensors::WholeTensors(const ParameterArena& arena, const Tensor& array) {
  const double* elements = array.data<double>();
  Entry* entry = nullptr;
  const auto add = [&](const ParameterSegment& segment, int64_t full_index, int64_t index,
                       int64_t count) {
    const SegmentSlice& slice = segment.slice;
    if (by_name_.count(segment.name) == 0) {
      entry = &entries_.emplace_back();
      entry->name = segment.name;
      entry->shape = slice.full_rows == 1 ? Shape{slice.full_columns}
                                          : Shape{slice.full_rows, slice.full_columns};
      entry->values.resize(slice.full_rows * slice.full_columns);
      by_name_[segment.name] = entry;
    }
    for (int64_t i = 0; i < count; ++i) {
      const double value = elements[index + i];
      entry->values[full_index + i] = value;
      if (std::isfinite(value)) entry->max_abs = std::max(entry->max_abs, std::abs(value));
    }
  };
  ForEachRun(arena, {0, arena.num_elements()}, add);
}

const WholeTensors::Entry& WholeTensors::Find(const std::string& name) const {
  const auto it = by_name_.find(name);
  CHECK(it != by_name_.end()) << "[check] no whole tensor " << name;
  return *it->second;
}

int64_t WholeTensors::num_elements() const {
  int64_t sum = 0;
  for (const Entry& entry : entries_) sum += static_cast<int64_t>(entry.values.size());
  return sum;
}

double WholeTensors::max_abs() const {
  double largest = 0;
  for (const Entry& entry : entries_) largest = std::max(largest, entry.max_abs);
  return largest;
}

double WholeTensors::Norm() const {
  double sum = 0;
  for (const Entry& entry : entries_) {
    for (const double x : entry.values) sum += x * x;
  }
  return std::sqrt(sum);
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
  const float* elements = array.data<float>();
  // What no run covers is padding, or a gap between parameters.
  std::vector<bool> covered(range.size());
  ForEachRun(
      arena, range,
      [&](const ParameterSegment& segment, int64_t full_index, int64_t index, int64_t count) {
        const int64_t at = index - range.begin;
        std::fill_n(covered.begin() + at, count, true);
        AddRun(rank, segment, full_index, elements + at, count);
      });
  for (int64_t i = 0; i < range.size(); ++i) {
    if (!covered[i] && std::bit_cast<uint32_t>(elements[i]) != 0) ++coverage_.num_dirty;
  }
}

void ShardComparison::AddRun(int rank, const ParameterSegment& segment, int64_t first_index,
                             const float* values, int64_t count) {
  State& state = states_.at(segment.name);
  const auto expected = static_cast<int16_t>(segment.slice.num_holders * dp_copies_);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = first_index + i;
    state.difference.Add(values[i], state.truth->values[at], at, rank);
    if (state.expected[at] == kUntouched) {
      state.expected[at] = expected;
      state.first[at] = values[i];
    }
    --state.expected[at];
    if (std::bit_cast<uint32_t>(state.first[at]) != std::bit_cast<uint32_t>(values[i])) {
      ++coverage_.num_different;
    }
  }
  coverage_.num_comparisons += count;
}

std::vector<CheckLine> ShardComparison::Lines(const std::string& what, double tolerance) const {
  const double largest = truth_->max_abs();
  std::vector<CheckLine> lines;
  for (const WholeTensors::Entry& entry : truth_->entries()) {
    const LargestDifference& difference = states_.at(entry.name).difference;
    const bool is_zero = entry.max_abs <= kZero * largest;
    lines.push_back({.name = entry.name,
                     .tensor = what,
                     .shape = entry.shape,
                     .error = difference.RelativeTo(is_zero ? largest : entry.max_abs),
                     .tolerance = tolerance,
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
