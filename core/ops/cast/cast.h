// Conversion between f32 and bf16, to nearest even.
//
//   Cast      y = x    x f32, y bf16, or x bf16, y f32
//   CastAdd   y += x   x bf16, y f32
//
// Elementwise on equal shapes. On the reference path x and y may both be f64, which rounds nothing.
#ifndef STRAKE_CORE_OPS_CAST_CAST_H_
#define STRAKE_CORE_OPS_CAST_CAST_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

absl::Status Cast(const Context& ctx, const Tensor& x, Tensor y);

absl::Status CastAdd(const Context& ctx, const Tensor& x, Tensor y);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_CAST_CAST_H_
