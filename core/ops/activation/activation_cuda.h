// Activation functions on CUDA. See core/ops/activation/activation.h for the formulas.
//
// `size` elements. T: float or Bf16; computed in f32. Tensors are packed, in device memory;
// 128-bit accesses where the addresses allow it. Work is enqueued on `stream`; the call does not
// wait for it. Gives the same bits every time. Returns an error for a launch that the device
// refuses.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CUDA_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/activation/activation_kind.h"

namespace strake::cuda {

// y = f(x). y may be x.
template <typename T>
struct ActivationForwardArgs {
  ActivationKind kind;
  const T* x;
  int64_t size;
  T* y;
};
template <typename T>
absl::Status ActivationForward(CudaStream stream, const ActivationForwardArgs<T>& args);

// dx = dy * f'(x). dx may be dy or x.
template <typename T>
struct ActivationBackwardArgs {
  ActivationKind kind;
  const T *dy, *x;
  int64_t size;
  T* dx;
};
template <typename T>
absl::Status ActivationBackward(CudaStream stream, const ActivationBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_ACTIVATION_KERNELS(KERNEL) \
  KERNEL(ActivationForward, float, Bf16)  \
  KERNEL(ActivationBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CUDA_H_
