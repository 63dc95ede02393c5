// A multiplication by a number on CUDA. See core/ops/scale/scale.h for the formula.
//
// `size` elements. T: float or Bf16; computed in f32. Tensors are packed, in device memory;
// 128-bit accesses where the addresses allow it. Work is enqueued on `stream`; the call does not
// wait for it. Gives the same bits every time. Returns an error for a launch that the device
// refuses.
#ifndef STRAKE_CORE_OPS_SCALE_SCALE_CUDA_H_
#define STRAKE_CORE_OPS_SCALE_SCALE_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// y = factor x. y may be x.
template <typename T>
struct ScaleArgs {
  float factor;
  const T* x;
  int64_t size;
  T* y;
};
template <typename T>
absl::Status Scale(CudaStream stream, const ScaleArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_SCALE_KERNELS(KERNEL) KERNEL(Scale, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SCALE_SCALE_CUDA_H_
