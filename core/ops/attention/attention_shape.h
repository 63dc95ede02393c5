// The sizes of an attention.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_

#include <cstdint>

namespace strake {

struct AttentionShape {
  int64_t batch = 0;         // B
  int64_t seq_len = 0;       // T
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // KV
  int64_t head_dim = 0;      // D
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_
