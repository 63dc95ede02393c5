// The sizes of an attention, and how its scores are made of queries and keys.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_

#include <cmath>
#include <cstdint>

namespace strake {

struct AttentionShape {
  int64_t batch = 0;         // B
  int64_t seq_len = 0;       // T
  int64_t num_heads = 0;     // H
  int64_t num_kv_heads = 0;  // KV
  int64_t head_dim = 0;      // D
  // W: a token sees itself and the W - 1 tokens before it. 0: itself and all tokens before it.
  int64_t window = 0;
  double score_scale = 0;    // a: scores are a q.k; 0: 1 / sqrt(D)
  double score_softcap = 0;  // c: scores become c tanh(score / c); 0: they stay as they are

  double Scale() const { return score_scale == 0 ? 1 / std::sqrt(double(head_dim)) : score_scale; }
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_
