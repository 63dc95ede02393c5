// Attention of new tokens over a key/value cache on CUDA, for any number of tokens and head sizes
// up to 256. See core/ops/attention/cached_attention.h for the formulas. dtypes, limits and errors
// are those of core/ops/attention/causal_attention_cuda.h.
//
// N new tokens, `past` tokens before them, P cache rows; H, KV, D as there.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CUDA_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/cuda/workspace_sizes.h"

namespace strake::cuda {

// Keys per block, and blocks per tile of queries and head, for more than one token: as many as fill
// an H200 (132 multiprocessors, two blocks each) if there are enough keys. A constant, not a
// property of the device, because the bits depend on it.
struct KeySplits {
  KeySplits(const AttentionShape& shape, int64_t past)
      : keys(past + shape.seq_len - shape.FirstKey(past)), count(1) {
    constexpr int64_t kFilling = 2 * 132, kTileRows = 64, kTileKeys = 64;
    const int64_t blocks = CeilDiv(shape.seq_len, kTileRows) * shape.num_heads;
    if (blocks == 0) return;
    const int64_t wanted = CeilDiv(kFilling, blocks);
    const int64_t all_keys = keys;
    keys = CeilDiv(CeilDiv(all_keys, wanted), kTileKeys) * kTileKeys;
    count = CeilDiv(all_keys, keys);
  }
  int64_t keys, count;
};

// Keys per block where there is one new token. A constant, so that neither the cache's size nor the
// number of tokens in it changes how a key is summed.
inline constexpr int64_t kDecodeSplitKeys = 128;

// The number of such blocks that serves any number of tokens in a cache of `cache_rows`.
inline int64_t DecodeSplits(const AttentionShape& shape, int64_t cache_rows) {
  const int64_t keys = shape.window == 0 ? cache_rows : std::min(shape.window, cache_rows);
  return CeilDiv(keys, kDecodeSplitKeys);
}

// Elements of the f32 workspace that CachedAttentionForward needs for a cache of `cache_rows`. Its
// contents do not matter.
inline int64_t CachedAttentionWorkspaceSize(const AttentionShape& shape, int64_t past,
                                            int64_t cache_rows) {
  const int64_t splits =
      shape.seq_len == 1 ? DecodeSplits(shape, cache_rows) : KeySplits(shape, past).count;
  return splits * shape.seq_len * shape.num_heads * ((splits > 1 ? shape.head_dim : 0) + 1);
}

// Writes the new tokens' keys and values to rows [past, past + N) of k_cache and v_cache
// [P, KV*D], then y = [N, H*D], from qkv [N, (H + 2 KV) * D]. `shape.batch` is 1 and
// `shape.seq_len` N. If `past_on_gpu` is not null, N is 1 and *past_on_gpu replaces `past`: it is
// read when the kernels run, and is below P.
template <typename T>
struct CachedAttentionForwardArgs {
  const T* qkv;
  AttentionShape shape;
  int64_t past;
  const int32_t* past_on_gpu;
  int64_t cache_rows;
  T *k_cache, *v_cache, *y;
  float* workspace;
};
template <typename T>
absl::Status CachedAttentionForward(CudaStream stream, const CachedAttentionForwardArgs<T>& args);

// See core/cuda/kernel_list.h.
#define STRAKE_CACHED_ATTENTION_KERNELS(KERNEL) KERNEL(CachedAttentionForward, float, Bf16)

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CUDA_H_
