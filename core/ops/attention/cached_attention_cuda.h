// Attention of new tokens over a key/value cache on CUDA, for any number of tokens and head sizes
// up to 256. See core/ops/attention/cached_attention.h for the formulas, and causal_attention.h
// beside this for what both have in common: dtypes, limits, errors.
//
// N new tokens, `past` before them, P cache rows; H, KV, D as there.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CUDA_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/attention_shape.h"

namespace strake::cuda {

// Elements of the f32 workspace that CachedAttentionForward needs. Its contents do not matter.
int64_t CachedAttentionWorkspaceSize(const AttentionShape& shape, int64_t past);

// Writes the new tokens' keys and values to rows [past, past + N) of k_cache and v_cache
// [P, KV*D], then y = [N, H*D], from qkv [N, (H + 2 KV) * D]. `shape.batch` is 1 and
// `shape.seq_len` N.
template <typename T>
absl::Status CachedAttentionForward(CudaStream stream, const T* qkv, const AttentionShape& shape,
                                    int64_t past, T* k_cache, T* v_cache, T* y, float* workspace);

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CUDA_H_
