// The settings of an AdamW step, and the scalars that an update derives from them.
#ifndef STRAKE_CORE_OPS_ADAMW_ADAMW_STEP_H_
#define STRAKE_CORE_OPS_ADAMW_ADAMW_STEP_H_

#include <cstdint>

namespace strake {

struct AdamWStep {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  int64_t step = 1;  // t, from 1
};

// The layout of the tensor that SetAdamWScalars() of core/ops/adamw/adamw.h fills.
template <typename Scalar>
struct AdamWScalars {
  Scalar decay;  // 1 - lr weight_decay
  Scalar beta1, one_minus_beta1;
  Scalar beta2, one_minus_beta2;
  Scalar sqrt_correction2;  // sqrt(1 - beta2^t)
  Scalar eps;
  Scalar step_size;  // lr / (1 - beta1^t)
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ADAMW_ADAMW_STEP_H_
