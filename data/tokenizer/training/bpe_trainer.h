// TrainBpe: a byte-level vocabulary from words and how often each occurs.
//
// The vocabulary begins with the special tokens and the 256 bytes, in GPT-2's order. Then, until it
// is full, the pair (a, b) of adjacent tokens that occurs most often becomes a token, wherever it
// stands in a word, from left to right. Of equally frequent ones the pair of the lowest ids is
// first. In "aaa" the pair (a, a) occurs twice. A pair whose text is a special token is left alone.
// So the merges are those of the BpeTrainer of Hugging Face's tokenizers.
//
// Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016,
// section 3.2. bpe_trainer_reference.h has the definition.
#ifndef STRAKE_DATA_TOKENIZER_TRAINING_BPE_TRAINER_H_
#define STRAKE_DATA_TOKENIZER_TRAINING_BPE_TRAINER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/tokenizer/tokenizer_spec.h"

namespace strake {

struct WordCount {
  std::string word;
  int64_t count = 0;
};

struct BpeTrainerOptions {
  int64_t vocab_size = 0;     // special tokens and bytes included
  int64_t min_frequency = 1;  // pairs that occur less often are not merged
  std::vector<std::string> special_tokens = {};
  std::function<void(int64_t num_tokens)> on_progress = {};  // after each merge
  std::function<bool()> stop_requested = {};
};

// Returns InvalidArgument for a vocabulary that cannot hold special tokens and bytes, or is larger
// than kMaxVocabSize, and for a special token that is empty, a byte, or there twice.
absl::Status CheckBpeTrainerOptions(const BpeTrainerOptions& options);

// Returns tokens, merges, added tokens and decoder; pre-tokenizers are the caller's. It has fewer
// than vocab_size tokens where the words have no more pairs of min_frequency or more. The order of
// the words does not matter.
//
// Returns the error of CheckBpeTrainerOptions(); ResourceExhausted for words of 4 GiB in all;
// Cancelled where a stop was requested.
absl::StatusOr<TokenizerSpec> TrainBpe(absl::Span<const WordCount> words,
                                       const BpeTrainerOptions& options);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TRAINING_BPE_TRAINER_H_
