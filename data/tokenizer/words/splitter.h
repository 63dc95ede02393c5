// Splitter: cuts text into the words within which byte pairs merge.
//
// The slow definition of a pattern is PCRE2 with UTF and UCP (pcre2_splitter.h). Known patterns
// (GPT-2's, cl100k's and Llama 3's, Qwen's, o200k's, Tekken's, DeepSeek's, StarCoder's) have
// functions of their own, which give the same words; tests compare them.
//
// Invalid UTF-8: valid stretches are split as texts of their own, and a run of invalid bytes joins
// the word before it; if that is all blanks, tabs and line feeds, so do all such words before it.
// So does tiktoken's byte path at the end of a text, but that it asks this of tokens, not of words;
// and it takes all that follows the first invalid byte for one word, where here splitting begins
// anew.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_SPLITTER_H_
#define STRAKE_DATA_TOKENIZER_WORDS_SPLITTER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace strake {

// Safe to use from many threads.
class Splitter {
 public:
  virtual ~Splitter() = default;

  // Appends the end of each word of `text`, of less than 4 GiB: ascending, the last one is
  // text.size(). What lies between matches of a pattern is a word too. PCRE2's returns
  // ResourceExhausted, with the expression and the place, where a match takes too many steps (more
  // than ten million, and 64 for each byte of the text); `ends` is then as it was.
  virtual absl::Status Split(absl::string_view text, std::vector<uint32_t>* ends) const = 0;

  // The largest p such that, whatever follows `text`, it is a word's end, and what begins there may
  // be split by itself: 0 where none is known. PCRE2's knows none.
  virtual size_t SafeCut(absl::string_view text) const = 0;

  // Whether matches cover every valid text, so that behaviors differ only in what they do with
  // them.
  virtual bool covers_all() const = 0;
};

// Each number by itself, and runs of them: Hugging Face's Digits.
extern const char kDigitPattern[];
extern const char kDigitsPattern[];

// A splitter of several patterns: each isolates its matches within the words of the one before, as
// a sequence of Hugging Face's Split does. A function of ours where the sequence is known, else
// PCRE2's. InvalidArgument, with PCRE2's message and the offset, for a pattern that is no regular
// expression, or means something else to PCRE2 than to the tokenizers' libraries.
absl::StatusOr<std::unique_ptr<const Splitter>> MakeSplitter(
    absl::Span<const std::string> patterns);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_SPLITTER_H_
