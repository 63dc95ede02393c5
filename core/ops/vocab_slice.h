// VocabSlice: the part of the vocabulary that a table of rows, or a matrix of logits, covers.
#ifndef STRAKE_CORE_OPS_VOCAB_SLICE_H_
#define STRAKE_CORE_OPS_VOCAB_SLICE_H_

#include <cstdint>

namespace strake {

// The entries that n consecutive rows of a table (or columns of logits) cover: [begin, begin + n)
// of the vocabulary [0, vocab_size). Entries from vocab_size on are padding, which belongs to no
// token. The whole vocabulary is {.vocab_size = V}.
struct VocabSlice {
  int64_t vocab_size = 0;
  int64_t begin = 0;

  // The number of tokens among the n entries; they come before the padding.
  // Always inlined, for core/ops/cpu/isa.h.
  [[gnu::always_inline]] int64_t NumTokens(int64_t n) const {
    const int64_t left = vocab_size - begin;
    return left < 0 ? 0 : left < n ? left : n;
  }
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_VOCAB_SLICE_H_
