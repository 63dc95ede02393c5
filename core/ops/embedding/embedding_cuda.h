// Embedding on CUDA. See core/ops/embedding/embedding.h for the formulas.
//
// N tokens, R table rows, C columns, all below 2^31. T: float or Bf16; sums are f32. Tensors are
// row-major and packed, in device memory; 128-bit accesses where C and the addresses allow it. Work
// is enqueued on `stream`. The call does not wait for it, and so does not report a token outside
// [0, slice.vocab_size): its row of y is NaN, and its row of dy adds nothing. Gives the same bits
// every time. Returns an error for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CUDA_H_
#define STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CUDA_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/cuda/workspace_sizes.h"
#include "core/ops/embedding/embedding_args.h"
#include "core/ops/vocab_slice.h"

namespace strake::cuda {

// y = [N, C], from tokens [N] and table [R, C].
template <typename T>
absl::Status EmbeddingForward(CudaStream stream, const EmbeddingForwardArgs<T>& args);

// Number of sorted token indices whose rows of dy one block adds up.
inline constexpr int kEmbeddingChunk = 64;

// Elements of the partial sums [chunks, 2, columns] at the start of the workspace.
inline int64_t NumEmbeddingPartials(int64_t num_tokens, int64_t columns) {
  return 2 * CeilDiv(num_tokens, kEmbeddingChunk) * columns;
}

// Bytes of the workspace that EmbeddingBackward needs. The workspace must be aligned to 16 bytes;
// its contents do not matter.
inline size_t EmbeddingBackwardWorkspaceBytes(int64_t num_tokens, int64_t columns) {
  constexpr int64_t kAlignment = 16;
  const int64_t elements =
      NumEmbeddingPartials(num_tokens, columns) + SortByRowWorkspaceSize(num_tokens);
  return CeilDiv(elements * sizeof(int), kAlignment) * kAlignment;
}

// dtable [R, C] (f32) += the rows of dy [N, C] by token. The order of the terms of a sum depends on
// the tokens alone.
template <typename T>
absl::Status EmbeddingBackward(CudaStream stream, const EmbeddingBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_EMBEDDING_KERNELS(KERNEL) \
  KERNEL(EmbeddingForward, float, Bf16)  \
  KERNEL(EmbeddingBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_EMBEDDING_EMBEDDING_CUDA_H_
