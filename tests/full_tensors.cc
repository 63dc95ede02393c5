#include "tests/full_tensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "models/sliced_models.h"

namespace strake::testing {
namespace {

bool SameBits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

}  // namespace

FullTensors::Entry* FullTensors::Find(const ParameterSegment& segment) {
  Entry& entry = entries_[segment.name];
  const size_t size = segment.slice.full_rows * segment.slice.full_columns;
  entry.values.resize(size);
  entry.num_columns = segment.slice.full_columns;
  entry.num_copies.resize(size);
  return &entry;
}

void FullTensors::Add(const ParameterArena& arena, const ShardRange& range,
                      const std::vector<double>& elements) {
  CHECK_EQ(elements.size(), range.size());
  std::vector<bool> padding(range.size(), true);
  const ParameterSegment* current = nullptr;
  Entry* entry = nullptr;
  int64_t num_different = 0;
  ForEachElement(arena, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
    if (&segment != current) entry = Find(segment);
    current = &segment;
    if (!range.Contains(index)) return;
    padding[index - range.begin] = false;
    const double value = elements[index - range.begin];
    double& known = entry->values[full_index];
    if (entry->num_copies[full_index]++ == 0) known = value;
    if (!SameBits(known, value)) ++num_different;
  });
  EXPECT_EQ(num_different, 0) << "elements that two holders have different bits of";
  int64_t num_dirty = 0;
  for (int64_t i = 0; i < range.size(); ++i) {
    if (padding[i] && !SameBits(elements[i], 0.0)) ++num_dirty;
  }
  EXPECT_EQ(num_dirty, 0) << "elements of padding that are not 0";
}

double RelativeError(const std::vector<double>& a, const std::vector<double>& b) {
  CHECK_EQ(a.size(), b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) {
      return std::numeric_limits<double>::infinity();
    }
    difference = std::max(difference, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return size > 0 ? difference / size : std::numeric_limits<double>::infinity();
}

}  // namespace strake::testing
