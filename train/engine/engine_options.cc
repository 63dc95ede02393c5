#include "train/engine/engine_options.h"

#include "absl/strings/str_cat.h"
#include "core/tensor/sequence_chunks.h"

namespace strake {

absl::Status CheckSequence(int64_t seq_len, int num_ranks) {
  if (SequenceChunks{.rank = 0, .num_ranks = num_ranks}.Divide(seq_len)) return absl::OkStatus();
  const int64_t num_chunks = int64_t{2} * num_ranks, below = seq_len / num_chunks * num_chunks;
  return absl::InvalidArgumentError(
      absl::StrCat("the sequence length ", seq_len, " is not a multiple of ", num_chunks,
                   ", twice the ", num_ranks, " context-parallel ranks: take ",
                   below > 0 ? absl::StrCat(below, " or ") : "", below + num_chunks));
}

}  // namespace strake
