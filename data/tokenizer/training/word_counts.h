// CountWords: the words of texts, and how often each occurs.
#ifndef STRAKE_DATA_TOKENIZER_TRAINING_WORD_COUNTS_H_
#define STRAKE_DATA_TOKENIZER_TRAINING_WORD_COUNTS_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer/training/bpe_trainer.h"
#include "data/tokenizer/words/splitter.h"

namespace strake {

// The pattern of vocabularies whose makers name none: what Hugging Face's ByteLevel has built in.
extern const char* const kByteLevelPattern;

struct TextPart {
  absl::string_view text;      // until the next call
  bool ends_document = false;  // no word goes on in the next part
};

// Sets the next part, or returns false at the end.
using NextTextPart = absl::FunctionRef<absl::StatusOr<bool>(TextPart* part)>;

// Counts the words of all parts on `num_threads` threads, in memory for the different words and
// some MiB per thread. `next_part` is called on any of these threads, on one at a time. The words
// come in no particular order. Returns the first error of `next_part` or of the splitter.
//
// A document of which the splitter knows no safe cut is cut every 64 MiB.
absl::StatusOr<std::vector<WordCount>> CountWords(const Splitter& splitter, int num_threads,
                                                  NextTextPart next_part);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TRAINING_WORD_COUNTS_H_
