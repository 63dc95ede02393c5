// Causal attention of new tokens over a key/value cache, for generating text.
//
// Like causal_attention for one sequence, but token n of the call is at position past + n, and the
// keys and values of positions below `past` come from the cache. With a window W, the query at
// position p sees keys (p - W, p], and no others are read. N new tokens, P cache rows.
// dtypes: f32; bf16; f64 and c128 on the reference path; all tensors share one dtype. On CUDA,
// returns InvalidArgument for D above 256.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/attention/attention_shape.h"
#include "core/tensor/tensor.h"

namespace strake {

// Writes the new tokens' keys and values to rows [past, past + N) of k_cache and v_cache
// [P, KV*D], then y = [N, H*D], from qkv [N, (H + 2 KV) * D]. `shape.batch` is 1 and
// `shape.seq_len` N. CHECKs that past + N <= P. There is no backward pass.
//
// If `past_on_gpu` ([1], i32) is defined, N is 1, and its content at the time the work runs
// replaces `past`: so a recorded graph serves all positions. It must be below P, which is not
// checked.
absl::Status CachedAttentionForward(const Context& ctx, const Tensor& qkv,
                                    const AttentionShape& shape, int64_t past, Tensor k_cache,
                                    Tensor v_cache, Tensor y, const Tensor& past_on_gpu = {});

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_H_
