// SwiGLU on CUDA. See core/ops/swiglu/swiglu.h for the formulas.
//
// N < 2^31 rows, F < 2^30 columns. T: float or Bf16; computed in f32. Tensors are row-major
// and packed, in device memory; 128-bit accesses where F and the addresses allow it. Work is
// enqueued on `stream`; the call does not wait for it. Gives the same bits every time. Returns an
// error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_SWIGLU_SWIGLU_CUDA_H_
#define STRAKE_CORE_OPS_SWIGLU_SWIGLU_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// y = [N, F], from gate_up [N, 2F]. `columns` is F.
template <typename T>
struct SwigluForwardArgs {
  const T* gate_up;
  int64_t rows, columns;
  T* y;
};
template <typename T>
absl::Status SwigluForward(CudaStream stream, const SwigluForwardArgs<T>& args);

// dgate_up = [N, 2F], from dy [N, F] and gate_up [N, 2F]. dgate_up may be gate_up.
template <typename T>
struct SwigluBackwardArgs {
  const T *dy, *gate_up;
  int64_t rows, columns;
  T* dgate_up;
};
template <typename T>
absl::Status SwigluBackward(CudaStream stream, const SwigluBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_SWIGLU_KERNELS(KERNEL) \
  KERNEL(SwigluForward, float, Bf16)  \
  KERNEL(SwigluBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_SWIGLU_SWIGLU_CUDA_H_
