// Gated activations on CUDA. See core/ops/gated_activation/gated_activation.h for the formulas.
//
// N < 2^31 rows, F < 2^30 columns. T: float or Bf16; computed in f32. Tensors are row-major
// and packed, in device memory; 128-bit accesses where F and the addresses allow it. Work is
// enqueued on `stream`; the call does not wait for it. Gives the same bits every time. Returns an
// error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CUDA_H_
#define STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/activation/activation_kind.h"

namespace strake::cuda {

// y = [N, F], from gate_up [N, 2F]. `columns` is F.
template <typename T>
struct GatedActivationForwardArgs {
  ActivationKind kind;
  const T* gate_up;
  int64_t rows, columns;
  T* y;
};
template <typename T>
absl::Status GatedActivationForward(CudaStream stream, const GatedActivationForwardArgs<T>& args);

// dgate_up = [N, 2F], from dy [N, F] and gate_up [N, 2F]. dgate_up may be gate_up.
template <typename T>
struct GatedActivationBackwardArgs {
  ActivationKind kind;
  const T *dy, *gate_up;
  int64_t rows, columns;
  T* dgate_up;
};
template <typename T>
absl::Status GatedActivationBackward(CudaStream stream, const GatedActivationBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_GATED_ACTIVATION_KERNELS(KERNEL) \
  KERNEL(GatedActivationForward, float, Bf16)   \
  KERNEL(GatedActivationBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CUDA_H_
