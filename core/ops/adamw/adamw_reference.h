// Reference implementation of AdamW. See core/ops/adamw/adamw.h.
#ifndef STRAKE_CORE_OPS_ADAMW_ADAMW_REFERENCE_H_
#define STRAKE_CORE_OPS_ADAMW_ADAMW_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "core/ops/adamw/adamw_step.h"

namespace strake::reference {

// Computed in double, as torch does, then rounded.
template <typename Scalar>
AdamWScalars<Scalar> AdamWScalarsOf(const AdamWStep& step) {
  return {.decay = Scalar(1 - step.lr * step.weight_decay),
          .beta1 = Scalar(step.beta1),
          .one_minus_beta1 = Scalar(1 - step.beta1),
          .beta2 = Scalar(step.beta2),
          .one_minus_beta2 = Scalar(1 - step.beta2),
          .sqrt_correction2 = Scalar(std::sqrt(1 - std::pow(step.beta2, step.step))),
          .eps = Scalar(step.eps),
          .step_size = Scalar(step.lr / (1 - std::pow(step.beta1, step.step)))};
}

// Performs the operations of torch's AdamW in their order: mul_, lerp_, mul_ and addcmul_, sqrt,
// addcdiv_. It is a plain loop in one pass, so each element's bits depend on that element alone.
template <typename Scalar>
void AdamWUpdate(const AdamWScalars<Scalar>& s, Scalar grad_scale, const Scalar* grad, int64_t size,
                 Scalar* weight, Scalar* exp_avg, Scalar* exp_avg_sq) {
  for (int64_t i = 0; i < size; ++i) {
    const Scalar g = grad_scale * grad[i];
    const Scalar m = s.one_minus_beta1 < Scalar(0.5)
                         ? exp_avg[i] + s.one_minus_beta1 * (g - exp_avg[i])
                         : g - (g - exp_avg[i]) * s.beta1;
    const Scalar v = s.beta2 * exp_avg_sq[i] + s.one_minus_beta2 * g * g;
    const Scalar denominator = std::sqrt(v) / s.sqrt_correction2 + s.eps;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    weight[i] = s.decay * weight[i] - s.step_size * m / denominator;
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ADAMW_ADAMW_REFERENCE_H_
