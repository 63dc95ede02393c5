// Sum of the squares of a tensor's elements.
//
//   sum_i x[i]^2
//
// dtypes: f32; f64 and c128 on the reference path (c128: the sum of x^2, not of |x|^2). Sums in
// double, in an order that depends only on the size and the device.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// sum = [1] (f64; c128 for c128), from x of any shape.
absl::Status SquaredNormForward(const Context& ctx, const Tensor& x, Tensor sum);

// dx = 2 x dsum, with dsum [1] of sum's dtype; dx has x's dtype and may be x.
absl::Status SquaredNormBackward(const Context& ctx, const Tensor& x, const Tensor& dsum,
                                 Tensor dx);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_H_
