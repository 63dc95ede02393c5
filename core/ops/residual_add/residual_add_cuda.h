// The residual connection on CUDA, for sums that no norm adds (rms_norm.h, layer_norm.h).
//
//   y = x + residual
//
// `size` elements. T: float or Bf16. Tensors are packed, in device memory; 128-bit accesses where
// the addresses allow it. Work is enqueued on `stream`; the call does not wait for it. Gives the
// same bits every time. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CUDA_H_
#define STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// y = x + residual. y may be either.
template <typename T>
struct ResidualAddForwardArgs {
  const T *x, *residual;
  int64_t size;
  T* y;
};
template <typename T>
absl::Status ResidualAddForward(CudaStream stream, const ResidualAddForwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_RESIDUAL_ADD_KERNELS(KERNEL) KERNEL(ResidualAddForward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CUDA_H_
