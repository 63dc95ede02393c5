// GELU on CUDA. See core/ops/gelu/gelu.h for the formula.
//
// `size` elements. T: float or Bf16; computed in f32. Tensors are packed, in device memory;
// 128-bit accesses where the addresses allow it. Work is enqueued on `stream`; the call does not
// wait for it. Gives the same bits every time. Returns an error for a launch that the device
// refuses.
#ifndef STRAKE_CORE_OPS_GELU_GELU_CUDA_H_
#define STRAKE_CORE_OPS_GELU_GELU_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// y = gelu(x). y may be x.
template <typename T>
struct GeluForwardArgs {
  const T* x;
  int64_t size;
  T* y;
};
template <typename T>
absl::Status GeluForward(CudaStream stream, const GeluForwardArgs<T>& args);

// dx = dy * gelu'(x). dx may be dy or x.
template <typename T>
struct GeluBackwardArgs {
  const T *dy, *x;
  int64_t size;
  T* dx;
};
template <typename T>
absl::Status GeluBackward(CudaStream stream, const GeluBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_GELU_KERNELS(KERNEL) \
  KERNEL(GeluForward, float, Bf16)  \
  KERNEL(GeluBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_GELU_GELU_CUDA_H_
