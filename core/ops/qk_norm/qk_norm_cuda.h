// QkNorm on CUDA. See core/ops/qk_norm/qk_norm.h for the formulas.
//
// Rows, columns and their products with heads below 2^31. T: float or Bf16; sums are f32. Tensors
// are row-major and packed, in device memory; 128-bit accesses where sizes and addresses allow it.
// Work is enqueued on `stream`; the call does not wait for it. Gives the same bits every time, on
// every GPU of one architecture. Returns an error for a launch that the device refuses: that of the
// backward pass needs shared memory for the gradients of a row's weights.
#ifndef STRAKE_CORE_OPS_QK_NORM_QK_NORM_CUDA_H_
#define STRAKE_CORE_OPS_QK_NORM_QK_NORM_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/qk_norm/qk_norm_args.h"

namespace strake::cuda {

// Normalizes queries and keys in place, and sets raw and rstd.
template <typename T>
absl::Status QkNormForward(CudaStream stream, const QkNormForwardArgs<T>& args);

// Number of blocks, one partial sum of weights' gradients each: what the 132 multiprocessors of an
// H200 hold at a time. A constant, not a property of the device, because the bits depend on it.
inline int64_t QkNormBackwardBlocks(int64_t rows) { return rows < 4 * 132 ? rows : 4 * 132; }

// Elements of the f32 workspace that QkNormBackward needs. Its contents do not matter.
// `weight_columns` counts both weights.
inline int64_t QkNormBackwardWorkspaceSize(int64_t rows, int64_t weight_columns) {
  return QkNormBackwardBlocks(rows) * weight_columns;
}

// Turns dy into dx in place, without `weights_only`; dweights +=.
template <typename T>
absl::Status QkNormBackward(CudaStream stream, const QkNormBackwardArgs<T>& args);

// sums =.
template <typename T>
absl::Status QkNormSums(CudaStream stream, const QkNormSumsArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_QK_NORM_KERNELS(KERNEL) \
  KERNEL(QkNormForward, float, Bf16)   \
  KERNEL(QkNormBackward, float, Bf16)  \
  KERNEL(QkNormSums, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_QK_NORM_QK_NORM_CUDA_H_
