// Position embedding on CUDA. See core/ops/embedding/position_embedding.h for the formulas.
//
// N rows, P positions, C columns, all below 2^31; 0 < period <= P, offset >= 0. T: float or Bf16;
// sums are f32. Tensors are row-major and packed, in device memory; 128-bit accesses where C and
// the addresses allow it. Work is enqueued on `stream`; the call does not wait for it. Gives the
// same bits every time. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_CUDA_H_
#define STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"

namespace strake::cuda {

// y [N, C] +=, from positions [P, C].
template <typename T>
struct PositionEmbeddingForwardArgs {
  const T* positions;
  int64_t period, offset, rows, columns;
  T* y;
  // [N], the rows' positions; null where period and offset give them. The row of one outside of
  // [0, P) becomes NaN.
  const int32_t* given = nullptr;
  int64_t num_positions = 0;  // P, where positions are given
};
template <typename T>
absl::Status PositionEmbeddingForward(CudaStream stream,
                                      const PositionEmbeddingForwardArgs<T>& args);

// dpositions [P, C] (f32) += the rows of dy [N, C] by position, in the order of rows. For given
// positions this is EmbeddingBackward (embedding_cuda.h).
template <typename T>
struct PositionEmbeddingBackwardArgs {
  const T* dy;
  int64_t period, offset, rows, columns;
  float* dpositions;
};
template <typename T>
absl::Status PositionEmbeddingBackward(CudaStream stream,
                                       const PositionEmbeddingBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_POSITION_EMBEDDING_KERNELS(KERNEL) \
  KERNEL(PositionEmbeddingForward, float, Bf16)   \
  KERNEL(PositionEmbeddingBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_EMBEDDING_POSITION_EMBEDDING_CUDA_H_
