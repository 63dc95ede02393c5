// One AdamW update of a range of weights: decoupled weight decay, bias correction.
//
//   g = grad_scale * grad
//   m = beta1 m + (1 - beta1) g
//   v = beta2 v + (1 - beta2) g^2
//   w = w (1 - lr weight_decay) - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
//
// Elementwise on equal shapes. dtypes: f32; f64 on the reference path. All tensors share one.
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2, in the
// form of torch.optim.AdamW.
#ifndef STRAKE_CORE_OPS_ADAMW_H_
#define STRAKE_CORE_OPS_ADAMW_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

struct AdamWStep {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  double grad_scale = 1;  // clipping, applied on the way
  int64_t step = 1;       // t, from 1
};

// weight, exp_avg (m) and exp_avg_sq (v) change in place; grad is read.
absl::Status AdamWUpdate(const Context& ctx, const AdamWStep& step, const Tensor& grad,
                         Tensor weight, Tensor exp_avg, Tensor exp_avg_sq);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ADAMW_H_
