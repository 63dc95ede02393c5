// Reference implementation of cached attention, row by row. See
// core/ops/attention/cached_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_

#include <cstdint>

#include "core/ops/attention/causal_attention_reference.h"

namespace strake::reference {

// Computes one query head of N tokens from position `past` on, over that head's cache: q and y hold
// rows [N, D], the caches [past + N, D]. N is shape.seq_len.
template <typename Scalar>
struct CachedAttentionForwardArgs {
  const Scalar* q;
  int64_t q_stride;
  const Scalar *k_cache, *v_cache;
  int64_t cache_stride, past;
  AttentionShape shape;
  Scalar* y;
  int64_t y_stride;
};
template <typename Scalar>
void CachedAttentionForward(const CachedAttentionForwardArgs<Scalar>& args) {
  const AttentionShape& shape = args.shape;
  for (int64_t n = 0; n < shape.seq_len; ++n) {
    const int64_t first = shape.FirstKey(args.past + n), count = args.past + n + 1 - first;
    const int64_t at = first * args.cache_stride;
    AttendRow(shape, args.q + n * args.q_stride,
              HeadRows(args.k_cache + at, count, shape.head_dim, args.cache_stride),
              HeadRows(args.v_cache + at, count, shape.head_dim, args.cache_stride),
              args.y + n * args.y_stride);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_REFERENCE_H_
