// The clipping factor on CUDA. See core/ops/clip_scale/clip_scale.h for the formula.
//
// The sum is an exact one (core/base/exact_sum.h), and all else is f64, in device memory; the bits
// are those of the CPU. Work is enqueued on `stream`; the call does not wait for it. Returns an
// error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_CUDA_H_
#define STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// clip = [2], from sum [kExactSumLimbs] and grad_scale [1], or null for 1.
struct ClipScaleArgs {
  const int64_t* sum;
  const double* grad_scale;
  double clip_norm;
  double* clip;
};
absl::Status ClipScale(CudaStream stream, const ClipScaleArgs& args);

// See core/cuda/kernel_list.h.
#define STRAKE_CLIP_SCALE_KERNELS(KERNEL) KERNEL(ClipScale)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CLIP_SCALE_CLIP_SCALE_CUDA_H_
