// What makes scores of products on the CPU: the keys that queries see, and the cap.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CPU_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CPU_H_

#include <cstdint>

#include "core/ops/attention/attention_shape.h"
#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

// c tanh(score / c).
struct Softcap {
  explicit Softcap(const AttentionShape& shape)
      : cap(static_cast<float>(shape.score_softcap)), inverse(1 / cap) {}
  STRAKE_INLINE Vec operator()(Vec score) const { return cap * Tanh(inverse * score); }
  // The derivative, from the result.
  STRAKE_INLINE Vec Slope(Vec capped) const {
    const Vec ratio = inverse * capped;
    return 1 - ratio * ratio;
  }
  float cap, inverse;
};

// Columns of a block of keys.
struct KeyColumns {
  int64_t begin, count;
};

// The columns of the block of keys at `key` that any of `rows` queries from `position` on sees, in
// whole vectors; there are `num_keys` keys. `count` is not above 0 if there are none.
STRAKE_INLINE KeyColumns SeenColumns(const AttentionShape& shape, int64_t num_keys, int64_t block,
                                     int64_t position, int64_t rows, int64_t key) {
  const int64_t seen = Min(position + rows, num_keys) - key;
  const int64_t end = Min(block, (seen + kLanes - 1) & -kLanes);
  if (shape.window == 0) return {0, end};
  const int64_t begin = Max(0, (shape.FirstKey(position) - key) & -kLanes);
  return {begin, end - begin};
}

// Which ends of a row of keys a query may not see.
enum class Hidden { kNone, kLast, kBoth };

// For columns of which the first is `key`, and `rows` queries.
STRAKE_INLINE Hidden HiddenEnds(const AttentionShape& shape, int64_t num_keys, int64_t position,
                                int64_t rows, int64_t key, int64_t count) {
  if (shape.FirstKey(position + rows - 1) > key) return Hidden::kBoth;
  return Min(position + 1, num_keys) < key + count ? Hidden::kLast : Hidden::kNone;
}

// The keys of a row of scores that a query sees, as columns: none from `end` on, which its own
// position and the last key give, and with a window none before `begin`.
struct SeenOfRow {
  int64_t begin, end;
};

// For the query at `position`, and columns of which the first is `key`.
STRAKE_INLINE SeenOfRow SeenBy(const AttentionShape& shape, int64_t num_keys, int64_t position,
                               int64_t key) {
  return {position + 1 - shape.window - key, Min(position + 1, num_keys) - key};
}

// `value` in the lanes, from column j on, that a query sees, `other` in the rest.
template <Hidden kHidden>
STRAKE_INLINE Vec WhereSeen(const SeenOfRow& seen, int64_t j, Vec value, Vec other) {
  if constexpr (kHidden == Hidden::kBoth) value = FirstLanes<true>(seen.begin - j, other, value);
  return FirstLanes<kHidden != Hidden::kNone>(seen.end - j, value, other);
}

}  // namespace strake::cpu::STRAKE_CPU_ISA

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CPU_H_
