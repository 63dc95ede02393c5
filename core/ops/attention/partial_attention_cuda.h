// Partial attention on CUDA, for head sizes up to 256. See core/ops/attention/partial_attention.h
// for the formulas, and causal_attention_cuda.h for what holds of all attentions' kernels.
//
// T: float or Bf16; y, lse and the gradients of queries, keys and values are f32. B * H * R and
// B * S are below 2^31. Work is enqueued on `stream`; the call does not wait for it. Gives the same
// bits every time, on every GPU of one architecture. Queries that see no key keep the bits of y and
// lse. Returns an error for D above 256 and for a launch that the device refuses.
#ifndef STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/partial_attention_shape.h"

namespace strake::cuda {

// y [B*R, H*D] and lse [B, H, R], of the queries' rows, from qkv [B*R, (H + 2 KV) * D] and kv
// [B*S, 2 KV * D].
template <typename T>
struct PartialAttentionForwardArgs {
  const T *qkv, *kv;
  PartialAttention part;
  bool merge;
  float *y, *lse;
  const int32_t* positions = nullptr;  // [B*R], or null
};
template <typename T>
absl::Status PartialAttentionForward(CudaStream stream, const PartialAttentionForwardArgs<T>& args);

// Elements of the f32 workspace that PartialAttentionBackward needs. Its contents do not matter.
inline int64_t PartialAttentionBackwardWorkspaceSize(const AttentionShape& shape) {
  return shape.batch * shape.num_heads * shape.seq_len;
}

// dq [B*R, H*D] += and dkv [B*S, 2 KV * D] +=.
template <typename T>
struct PartialAttentionBackwardArgs {
  const T *dy, *qkv, *kv, *y;
  const float* lse;
  PartialAttention part;
  float *dq, *dkv;
  float* workspace;
  const int32_t* positions = nullptr;
};
template <typename T>
absl::Status PartialAttentionBackward(CudaStream stream,
                                      const PartialAttentionBackwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_PARTIAL_ATTENTION_KERNELS(KERNEL) \
  KERNEL(PartialAttentionForward, float, Bf16)   \
  KERNEL(PartialAttentionBackward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_CUDA_H_
