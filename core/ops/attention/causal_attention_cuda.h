// Causal attention with grouped key/value heads on CUDA, for any sequence length and head sizes up
// to 256. See core/ops/attention/causal_attention.h for the formulas and the fused matrix.
//
// B sequences of T tokens, H query heads, KV key/value heads, D head size; B * H * T is below 2^31.
// T: float or Bf16; scores, sums, lse and the workspace are f32, and no memory grows faster than T.
// Tensors are row-major and packed, in device memory; 128-bit accesses where D and the addresses
// allow it. Work is enqueued on `stream`; the call does not wait for it. Gives the same bits every
// time, on every GPU of one architecture. Tiles without a pair that is seen are not visited. A
// non-finite value may reach tokens of its tile that do not see it.
// Returns an error for D above 256 and for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/attention_shape.h"

namespace strake::cuda {

// y = [B*T, H*D] and lse = [B, H, T], from qkv [B*T, (H + 2 KV) * D].
template <typename T>
struct CausalAttentionForwardArgs {
  const T* qkv;
  AttentionShape shape;
  T* y;
  float* lse;
  // [B*T], each token's position in its document (core/ops/documents.h); null: one per sequence. A
  // token whose position is not valid, or follows one that is not, may see anything of its
  // sequence.
  const int32_t* positions = nullptr;
  // With positions: where the number that this points at is 0, nothing is done. Null: it is done.
  const int32_t* only_if = nullptr;
};
template <typename T>
absl::Status CausalAttentionForward(CudaStream stream, const CausalAttentionForwardArgs<T>& args);

// Elements of the f32 workspace that CausalAttentionBackward needs. Its contents do not matter.
inline int64_t CausalAttentionBackwardWorkspaceSize(const AttentionShape& shape) {
  return shape.batch * shape.num_heads * shape.seq_len;
}

// dqkv = [B*T, (H + 2 KV) * D], from dy [B*T, H*D] and the forward pass's qkv, y and lse. dqkv
// must not be one of them.
template <typename T>
struct CausalAttentionBackwardArgs {
  const T *dy, *qkv, *y;
  const float* lse;
  AttentionShape shape;
  T* dqkv;
  float* workspace;
  const int32_t* positions = nullptr;
  const int32_t* only_if = nullptr;
};
template <typename T>
absl::Status CausalAttentionBackward(CudaStream stream, const CausalAttentionBackwardArgs<T>& args);

// Where the documents of a batch begin, and how long they are, in groups of `group_size` documents
// and at most `num_groups` of them: lengths [num_groups, group_size] i32, and i64 offsets
// [num_groups, group_size + 1] in elements, the last of a group being where its documents end:
//   fused    of rows of qkv [B*T, (H + 2 KV) * D]
//   output   of rows of y [B*T, H*D]
//   lse      of lse [B, H, T], in the first head
// with rows of length_stride and offset_stride numbers. What is left over has length 0, at the end
// of the batch. If there are more documents, all have length 0, and *overflow = 1, else 0. A
// document begins where its position is 0 and where a sequence does, whatever the positions are.
struct DocumentRangesArgs {
  const int32_t* positions;
  AttentionShape shape;
  int num_groups, group_size, length_stride, offset_stride;
  int32_t* lengths;
  int64_t *fused, *output, *lse;
  int32_t* overflow;
};
absl::Status DocumentRanges(CudaStream stream, const DocumentRangesArgs& args);

// See core/cuda/kernel_list.h.
#define STRAKE_CAUSAL_ATTENTION_KERNELS(KERNEL) \
  KERNEL(CausalAttentionForward, float, Bf16)   \
  KERNEL(CausalAttentionBackward, float, Bf16)  \
  KERNEL(DocumentRanges)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CUDA_H_
