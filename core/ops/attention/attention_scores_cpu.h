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
// whole vectors. `count` is not above 0 if there are none.
STRAKE_INLINE KeyColumns SeenColumns(const AttentionShape& shape, int64_t block, int64_t position,
                                     int64_t rows, int64_t key) {
  const int64_t end = Min(block, (position + rows - key + kLanes - 1) & -kLanes);
  if (shape.window == 0) return {0, end};
  const int64_t begin = Max(0, (shape.FirstKey(position) - key) & -kLanes);
  return {begin, end - begin};
}

// Which ends of a row of keys a query may not see.
enum class Hidden { kNone, kLast, kBoth };

// For columns of which the first is `key`, and `rows` queries.
STRAKE_INLINE Hidden HiddenEnds(const AttentionShape& shape, int64_t position, int64_t rows,
                                int64_t key, int64_t count) {
  if (shape.FirstKey(position + rows - 1) > key) return Hidden::kBoth;
  return position < key + count - 1 ? Hidden::kLast : Hidden::kNone;
}

// `value` in lanes that a query sees, `other` in the rest. It sees none from lane `end` on and,
// with kBoth, no more than `window` before that.
template <Hidden kHidden>
STRAKE_INLINE Vec WhereSeen(int64_t end, int64_t window, Vec value, Vec other) {
  if constexpr (kHidden == Hidden::kBoth) value = FirstLanes<true>(end - window, other, value);
  return FirstLanes<kHidden != Hidden::kNone>(end, value, other);
}

}  // namespace strake::cpu::STRAKE_CPU_ISA

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_SCORES_CPU_H_
