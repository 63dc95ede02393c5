// AttentionSegment: queries next to each other of one document, and the keys that they see.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_SEGMENT_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_SEGMENT_H_

#include <cstdint>

#include "core/ops/attention/attention_shape.h"

namespace strake {

// Rows of the matrices of a batch. Query n of the segment is at position past + n from its first
// key on; it sees keys up to that position, and at least one.
struct AttentionSegment {
  int64_t query = 0, num_queries = 0;
  int64_t key = 0, num_keys = 0;
  int64_t past = 0;

  double NumPairs(const AttentionShape& shape) const {
    return shape.NumPairs(num_queries, past, num_keys);
  }
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SEGMENT_H_
