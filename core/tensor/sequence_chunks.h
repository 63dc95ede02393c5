// SequenceChunks: the tokens of a sequence that a context-parallel rank holds.
//
// Of the C ranks that share a sequence of T tokens, rank r holds chunks r and 2C-1-r of its 2C
// equal chunks, in this order. So causal attention is the same work on every rank. Source: Dubey et
// al., "The Llama 3 Herd of Models", 2024, section 3.3.2.
#ifndef STRAKE_CORE_TENSOR_SEQUENCE_CHUNKS_H_
#define STRAKE_CORE_TENSOR_SEQUENCE_CHUNKS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "core/tensor/shard_range.h"

namespace strake {

struct SequenceChunks {
  int rank = 0;
  int num_ranks = 1;

  // The tokens of a rank. Ranks divide only sequences of a multiple of 2C tokens.
  int64_t NumLocal(int64_t seq_len) const { return seq_len / num_ranks; }
  bool Divide(int64_t seq_len) const { return num_ranks == 1 || seq_len % (2 * num_ranks) == 0; }

  // The positions of the chunks. One rank's are the halves of the sequence, of which the second has
  // the odd token.
  std::array<ShardRange, 2> Of(int64_t seq_len) const {
    const int64_t size = seq_len / (2 * num_ranks), last = 2 * num_ranks - 1 - rank;
    return {
        {{rank * size, (rank + 1) * size}, {last * size, rank == 0 ? seq_len : (last + 1) * size}}};
  }

  // Returns the numbers of the rank's tokens, of [num_sequences * seq_len] of all tokens.
  std::vector<int32_t> Take(const int32_t* all, int64_t num_sequences, int64_t seq_len) const {
    std::vector<int32_t> local;
    local.reserve(num_sequences * NumLocal(seq_len));
    for (int64_t i = 0; i < num_sequences; ++i, all += seq_len) {
      for (const ShardRange& chunk : Of(seq_len)) {
        local.insert(local.end(), all + chunk.begin, all + chunk.end);
      }
    }
    return local;
  }
};

}  // namespace strake

#endif  // STRAKE_CORE_TENSOR_SEQUENCE_CHUNKS_H_
