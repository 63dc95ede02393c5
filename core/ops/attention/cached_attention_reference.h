// Cached attention by definition, row by row. See core/ops/attention/cached_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_

#include <cstdint>

#include "core/ops/attention/causal_attention_reference.h"

namespace strake::reference {

// One query head of `num_tokens` tokens from position `past` on, over its head's cache.
template <typename Scalar>
void CachedAttentionForward(const Scalar* q, int64_t q_stride, const Scalar* k_cache,
                            const Scalar* v_cache, int64_t cache_stride, int64_t past,
                            int64_t num_tokens, int64_t head_dim, Scalar* y, int64_t y_stride) {
  for (int64_t n = 0; n < num_tokens; ++n) {
    AttendRow(q + n * q_stride, HeadRows(k_cache, past + n + 1, head_dim, cache_stride),
              HeadRows(v_cache, past + n + 1, head_dim, cache_stride), y + n * y_stride);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_
