// Measures a tensor's error, and bounds the part of it that rounding explains.
#ifndef STRAKE_CORE_OPS_CHECK_ROUNDING_H_
#define STRAKE_CORE_OPS_CHECK_ROUNDING_H_

#include <cstdint>

#include "core/tensor/tensor.h"

namespace strake {

// The largest difference of one tensor from the truth, element by element.
class LargestDifference {
 public:
  // `index` is the element's row-major index.
  void Add(double actual, double truth, int64_t index, int rank = -1);

  double value() const { return value_; }  // max|a - b|, infinite if either has a NaN
  int64_t index() const { return index_; }
  int rank() const { return rank_; }
  // max|a - b| / scale, where `scale` is max|b|.
  double RelativeTo(double scale) const;

 private:
  double value_ = 0;
  int64_t index_ = 0;
  int rank_ = -1;
};

// The coordinates of a row-major index.
Shape Coordinates(int64_t index, const Shape& shape);

// The largest error that rounding to f32 explains, relative to a tensor's largest element. The
// model: every number is a sum of `num_terms` terms of random sign. Each partial sum is rounded by
// half a unit in the last place (2^-24) of numbers up to the result's size, and the sum is rounded
// another `num_roundings` times. Independent roundings add up in quadrature; the largest of a
// tensor's many errors is about four times their root mean square.
double RoundingTolerance(double num_terms, double num_roundings);

// The same for `num_stores` successive roundings to bf16, each by at most half a unit in the last
// place: 2^-8 of a number just above a power of two. They are few, so their worst cases are added
// up.
double Bf16Tolerance(double num_stores);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CHECK_ROUNDING_H_
