// Multiplies a tensor by a number.
//
//   y = factor x
//
// Elementwise on equal shapes. dtypes: f32; bf16, where the product is rounded once; f64 and c128
// on the reference path. Both tensors share one dtype.
#ifndef STRAKE_CORE_OPS_SCALE_SCALE_H_
#define STRAKE_CORE_OPS_SCALE_SCALE_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = factor * x. y may be x. The backward pass is the same function of dy.
absl::Status Scale(const Context& ctx, double factor, const Tensor& x, Tensor y);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SCALE_SCALE_H_
