// A soft cap: a smooth bound of the size of numbers.
//
//   y = c tanh(x / c)
//
// Elementwise on equal shapes. dtypes: f32; bf16; f64 and c128 on the reference path. Both tensors
// share one dtype.
// The slope is a function of y, 1 - (y / c)^2, which softmax_cross_entropy multiplies its gradient
// with.
// Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024, section
// 2 (logit soft-capping).
#ifndef STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_H_
#define STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = cap * tanh(x / cap), for a cap above 0. y may be x.
absl::Status Softcap(const Context& ctx, double cap, const Tensor& x, Tensor y);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SOFTCAP_SOFTCAP_H_
