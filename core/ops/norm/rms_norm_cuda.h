// RMSNorm on CUDA, with the residual addition before it. See core/ops/norm/rms_norm.h for the
// formulas.
//
// N rows, C columns, both below 2^31. T: float or Bf16; sums are f32. Tensors are row-major and
// packed, in device memory; 128-bit accesses where C and the addresses allow it. Work is enqueued
// on `stream`; the call does not wait for it. Gives the same bits every time, on every GPU of one
// architecture. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_NORM_RMS_NORM_CUDA_H_
#define STRAKE_CORE_OPS_NORM_RMS_NORM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/cuda/workspace_sizes.h"
#include "core/ops/norm/rms_norm_args.h"

namespace strake::cuda {

// y [N, C] = RMSNorm(sum), rstd [N], from
//   sum [N, C] = x + residual, rounded to T    with a residual [N, C]
//   sum = x, not written and may be null       without (null)
// y and sum may be x or the residual, but not each other.
template <typename T>
absl::Status RmsNormForward(CudaStream stream, const RmsNormForwardArgs<T>& args);

// Elements of the f32 workspace that RmsNormBackward needs, with T of this many bytes. Its
// contents do not matter.
inline int64_t RmsNormBackwardWorkspaceSize(int64_t rows, int64_t columns, int64_t element_bytes) {
  return NumRowBlockPartials(rows, columns, element_bytes) * columns;
}

// From dy, x [N, C], weight [C] and the forward pass's rstd [N]; x is the forward pass's `sum`.
//   dx      [N, C]  =, or += with `accumulate_dx`; without it dx may be dy; null: not written
//   dweight [C]     +=, f32
template <typename T>
absl::Status RmsNormBackward(CudaStream stream, const RmsNormBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_RMS_NORM_KERNELS(KERNEL) \
  KERNEL(RmsNormForward, float, Bf16)   \
  KERNEL(RmsNormBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_NORM_RMS_NORM_CUDA_H_
