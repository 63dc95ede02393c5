// AdamW on CUDA. See core/ops/adamw/adamw.h for the formulas.
//
// All tensors have the same length, are f32 and are in device memory; accesses are 128-bit where
// the addresses allow it. Work is enqueued on `stream`; the call does not wait for it. Gives the
// same bits every time; they do not depend on the range that an element is updated in. Returns an
// error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_ADAMW_ADAMW_CUDA_H_
#define STRAKE_CORE_OPS_ADAMW_ADAMW_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/adamw/adamw_step.h"

namespace strake::cuda {

// Updates weight, exp_avg and exp_avg_sq in place and reads grad. `scalars` and `clip` {norm,
// scale} are in device memory, too. Without `weight_decay`, scalars->decay is taken as 1. A null
// `clip` means a scale of 1; nothing changes if the norm is NaN or infinite, or the scale is not
// positive. If `rounded` is not null, rounded [size] = weight in bf16.
struct AdamWUpdateArgs {
  const AdamWScalars<float>* scalars;
  bool weight_decay;
  const double* clip;
  const float* grad;
  int64_t size;
  float *weight, *exp_avg, *exp_avg_sq;
  Bf16* rounded;
};
absl::Status AdamWUpdate(CudaStream stream, const AdamWUpdateArgs& args);

// See core/cuda/kernel_list.h.
#define STRAKE_ADAMW_KERNELS(KERNEL) KERNEL(AdamWUpdate)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ADAMW_ADAMW_CUDA_H_
