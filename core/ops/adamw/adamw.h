// One AdamW update of a range of weights: decoupled weight decay, bias correction, clipping.
//
//   g = clip[1] grad
//   m = beta1 m + (1 - beta1) g
//   v = beta2 v + (1 - beta2) g^2
//   w = w (1 - lr weight_decay) - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
//
// Elementwise on equal shapes. dtypes: f32; f64 on the reference path. All tensors share one dtype,
// except `clip` (f64) and `rounded` (bf16). Values that change from step to step are in tensors on
// the weights' device, so an update captured in a CUDA graph also serves later steps.
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2, in the
// form of torch.optim.AdamW.
#ifndef STRAKE_CORE_OPS_ADAMW_ADAMW_H_
#define STRAKE_CORE_OPS_ADAMW_ADAMW_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/adamw/adamw_step.h"
#include "core/tensor/tensor.h"

namespace strake {

inline constexpr int64_t kNumAdamWScalars = 8;

// scalars = [kNumAdamWScalars], the numbers that AdamWUpdate needs for a step, computed in double
// and rounded to the weights' dtype. They are written to host memory: for weights on a GPU, copy
// them there.
void SetAdamWScalars(const AdamWStep& step, Tensor scalars);

// Updates weight, exp_avg (m) and exp_avg_sq (v) in place and reads grad. Without `weight_decay`,
// the step's weight decay is taken as 0.
//   scalars [kNumAdamWScalars]  SetAdamWScalars()
//   clip    [2]                 {norm, scale} of core/ops/clip_scale/clip_scale.h; undefined: a
//                               scale of 1. Nothing changes if the norm is NaN or infinite, or
//                               the scale is not > 0
//   rounded                     = the new f32 weights in bf16; may be undefined
struct AdamWOperands {
  Tensor scalars;
  Tensor clip = {};
  Tensor grad, weight, exp_avg, exp_avg_sq;
  Tensor rounded = {};
};
absl::Status AdamWUpdate(const Context& ctx, const AdamWOperands& operands, bool weight_decay);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ADAMW_ADAMW_H_
