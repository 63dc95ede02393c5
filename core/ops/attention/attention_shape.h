// The sizes of an attention, and how its scores are made of queries and keys.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_

#include <algorithm>
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
  double score_scale = 0;    // a > 0: scores are a q.k; 0: 1 / sqrt(D)
  double score_softcap = 0;  // c: scores become c tanh(score / c); 0: they stay as they are

  bool HasValidScores() const {
    return window >= 0 && score_scale >= 0 && std::isfinite(score_scale) && score_softcap >= 0 &&
           std::isfinite(score_softcap);
  }

  // The number of pairs of a query and a key that it sees, in one head of one sequence.
  double NumPairs() const { return NumPairs(seq_len, 0, seq_len); }
  // The same of queries from position `past` on, each of which sees at least one of the sequence's
  // first `num_keys` keys, and none behind them.
  double NumPairs(int64_t num_queries, int64_t past, int64_t num_keys) const {
    // The sum of min(position + 1, most) over the queries.
    const auto sum = [&](double most) {
      const auto before = [&](double end) {
        const double seen = std::min(end, most);
        return seen * (end - seen) + seen * (seen + 1) / 2;
      };
      return before(past + num_queries) - before(past);
    };
    const double end = past + num_queries;
    return sum(num_keys) - (sum(end) - sum(window == 0 ? end : window));
  }

  // These two are inlined, because the CPU's kernels call them (core/ops/cpu/isa.h).
  [[gnu::always_inline]] double Scale() const {
    return score_scale == 0 ? 1 / std::sqrt(double(head_dim)) : score_scale;
  }
  // The first key that the query at `position` sees; its own is the last.
  [[gnu::always_inline]] constexpr int64_t FirstKey(int64_t position) const {
    return window == 0 || position < window ? 0 : position - window + 1;
  }
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SHAPE_H_
