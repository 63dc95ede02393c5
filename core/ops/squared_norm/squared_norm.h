// Sum of the squares of a tensor's elements, added to a total without regard to order.
//
//   sum += sum_u s_u,  s_u = sum_{i in unit u} x[i]^2
//
// Unit u is the elements [64 u, 64 u + 64) of x. Each s_u is a double, rounded in an order of
// additions that all devices share. The s_u are added exactly (core/base/exact_sum.h). So bits
// depend on which elements share a unit, and on nothing else: any split of x at a multiple of 64,
// and any order of its parts, gives the same sum.
//
// dtypes: x f32; f64 and c128 on the reference path (c128: the sum of x^2, not of |x|^2).
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// sum [kExactSumLimbs] i64 +=, from x of any shape, and carries. For c128, sum is [1] c128, and
// rounds.
absl::Status SquaredNormForward(const Context& ctx, const Tensor& x, Tensor sum);

// dx = 2 x dsum, with dsum [1] f64, or c128 for c128; dx has x's dtype and may be x.
absl::Status SquaredNormBackward(const Context& ctx, const Tensor& x, const Tensor& dsum,
                                 Tensor dx);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_H_
