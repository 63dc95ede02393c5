// LayerNorm on CUDA, with the residual addition before it. See core/ops/norm/layer_norm.h for the
// formulas.
//
// N rows, C columns, both below 2^31. T: float or Bf16; sums are f32. Tensors are row-major and
// packed, in device memory; 128-bit accesses where C and the addresses allow it. Work is enqueued
// on `stream`; the call does not wait for it. Gives the same bits every time, on every GPU of one
// architecture. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_CUDA_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/cuda/workspace_sizes.h"
#include "core/ops/norm/layer_norm_args.h"

namespace strake::cuda {

// y [N, C] = LayerNorm(sum), mean [N], rstd [N], from weight [C], bias [C] and
//   sum [N, C] = x + residual, rounded to T    with a residual [N, C]
//   sum = x, not written and may be null       without (null)
// y and sum may be x or the residual, but not each other.
template <typename T>
absl::Status LayerNormForward(CudaStream stream, const LayerNormForwardArgs<T>& args);

// Elements of the f32 workspace that LayerNormBackward needs, with T of this many bytes. Its
// contents do not matter.
inline int64_t LayerNormBackwardWorkspaceSize(int64_t rows, int64_t columns,
                                              int64_t element_bytes) {
  return 2 * NumRowBlockPartials(rows, columns, element_bytes) * columns;
}

// From dy, x [N, C], weight [C] and the forward pass's mean and rstd [N]; x is the forward pass's
// `sum`.
//   dx      [N, C]  =, or += with `accumulate_dx`; without it dx may be dy; null: not written
//   dweight [C]     +=, f32
//   dbias   [C]     +=, f32
template <typename T>
absl::Status LayerNormBackward(CudaStream stream, const LayerNormBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_LAYER_NORM_KERNELS(KERNEL) \
  KERNEL(LayerNormForward, float, Bf16)   \
  KERNEL(LayerNormBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_CUDA_H_
