// GELU in its tanh form.
//
//   y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
//
// Elementwise on equal shapes. dtypes: f32; bf16; f64 and c128 on the reference path. All
// tensors share one dtype.
// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
#ifndef STRAKE_CORE_OPS_GELU_GELU_H_
#define STRAKE_CORE_OPS_GELU_GELU_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = gelu(x). y may be x.
absl::Status GeluForward(const Context& ctx, const Tensor& x, Tensor y);

// dx = dy * gelu'(x). dx may be dy or x.
absl::Status GeluBackward(const Context& ctx, const Tensor& dy, const Tensor& x, Tensor dx);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_GELU_GELU_H_
