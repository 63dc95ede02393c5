#include "core/ops/check/rounding.h"

#include <cmath>
#include <limits>

namespace strake {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

void LargestDifference::Add(double actual, double truth, int64_t index, int rank) {
  if (actual == truth) return;  // holds for equal infinities, too
  double difference = std::abs(actual - truth);
  if (!std::isfinite(difference)) difference = kInfinity;
  if (difference <= value_) return;
  value_ = difference;
  index_ = index;
  rank_ = rank;
}

double LargestDifference::RelativeTo(double scale) const {
  if (value_ == 0) return 0;
  return scale > 0 ? value_ / scale : kInfinity;
}

Shape Coordinates(int64_t index, const Shape& shape) {
  Shape at(shape.size(), 0);
  for (int i = static_cast<int>(shape.size()) - 1; i >= 0; --i) {
    at[i] = index % shape[i];
    index /= shape[i];
  }
  return at;
}

double RoundingTolerance(double num_terms, double num_roundings) {
  return 4 * (std::sqrt(num_terms) + num_roundings) * 0x1p-24;
}

double Bf16Tolerance(double num_stores) { return num_stores * 0x1p-8; }

}  // namespace strake
