// The sizes of a partial attention, and its part of the queries and keys.
#ifndef STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_SHAPE_H_
#define STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_SHAPE_H_

#include <cstdint>

#include "core/ops/attention/attention_shape.h"

namespace strake {

// `count` rows of each sequence of a matrix, from its row `row` on, which are the tokens from
// `position` on of the whole sequence.
struct TokenSpan {
  int64_t row = 0;
  int64_t position = 0;
  int64_t count = 0;
};

struct PartialAttention {
  AttentionShape shape;  // seq_len is R
  int64_t num_keys = 0;  // S
  TokenSpan queries = {}, keys = {};
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_SHAPE_H_
