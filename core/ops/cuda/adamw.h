// AdamW on CUDA. See core/ops/adamw.h for the formulas.
//
// All of one length, f32 in device memory, 128-bit accesses where the addresses allow it. Work is
// enqueued on `stream`; nothing waits for it. The same bits every time, whatever the range that an
// element is updated in. Error: a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_CUDA_ADAMW_H_
#define STRAKE_CORE_OPS_CUDA_ADAMW_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// What a step needs of its settings. In device memory, so that a captured graph takes those of each
// step, and that clipping sets grad_scale there.
struct AdamWScalars {
  float grad_scale;  // of AdamWStep, as all here
  float decay;       // 1 - lr weight_decay
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float sqrt_correction2;  // sqrt(1 - beta2^t)
  float eps;
  float step_size;  // lr / (1 - beta1^t)
};

// weight, exp_avg and exp_avg_sq change in place; grad is read. Without `weight_decay`, decay is
// taken as 1. With a `rounded` (may be null), weight is the master copy, and rounded [size] =
// weight in bf16.
absl::Status AdamWUpdate(CudaStream stream, const AdamWScalars* scalars, bool weight_decay,
                         const float* grad, int64_t size, float* weight, float* exp_avg,
                         float* exp_avg_sq, Bf16* rounded);

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_ADAMW_H_
