// An activation function of every element.
//
//   y = f(x), f of core/ops/activation/activation_kind.h
//
// Elementwise on equal shapes. dtypes: f32; bf16; f64 and c128 on the reference path, where ReLU
// goes by the sign of the real part. All tensors share one dtype.
// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2, has both forms of
// GELU, and SiLU.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/activation/activation_kind.h"
#include "core/tensor/tensor.h"

namespace strake {

// The op's name in records: "gelu", "gelu_erf", "silu" or "relu".
const char* ActivationName(ActivationKind kind);

// y = f(x). y may be x.
absl::Status ActivationForward(const Context& ctx, ActivationKind kind, const Tensor& x, Tensor y);

// dx = dy * f'(x), where ReLU's slope at 0 is 0. dx may be dy or x.
absl::Status ActivationBackward(const Context& ctx, ActivationKind kind, const Tensor& dy,
                                const Tensor& x, Tensor dx);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_H_
