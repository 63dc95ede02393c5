// Reference implementation of cached attention, row by row. See
// core/ops/attention/cached_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_

#include <cstdint>

#include "core/ops/attention/causal_attention_reference.h"

namespace strake::reference {

// Computes one query head of `num_tokens` tokens from position `past` on, over that head's cache: q
// and y hold rows [num_tokens, head_dim], the caches [past + num_tokens, head_dim].
template <typename Scalar>
struct CachedAttentionForwardArgs {
  const Scalar* q;
  int64_t q_stride;
  const Scalar *k_cache, *v_cache;
  int64_t cache_stride, past, num_tokens, head_dim;
  Scalar* y;
  int64_t y_stride;
};
template <typename Scalar>
void CachedAttentionForward(const CachedAttentionForwardArgs<Scalar>& args) {
  for (int64_t n = 0; n < args.num_tokens; ++n) {
    AttendRow(args.q + n * args.q_stride,
              HeadRows(args.k_cache, args.past + n + 1, args.head_dim, args.cache_stride),
              HeadRows(args.v_cache, args.past + n + 1, args.head_dim, args.cache_stride),
              args.y + n * args.y_stride);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_
