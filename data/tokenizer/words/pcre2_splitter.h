// RegularExpression and Pcre2Splitter: patterns that no function of ours knows, and the definition
// of those that one does.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_PCRE2_SPLITTER_H_
#define STRAKE_DATA_TOKENIZER_WORDS_PCRE2_SPLITTER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "data/tokenizer/words/splitter.h"

namespace strake {

// A pattern compiled by PCRE2 with UTF and UCP. \s is Unicode's White_Space, as in the tokenizers'
// libraries; $ is the end of the text. Safe to use from many threads.
class RegularExpression {
 public:
  struct Match {
    size_t begin, end;
  };
  // InvalidArgument, with the message and the offset. So is a class within a class, or && in one,
  // which PCRE2 reads as plain characters.
  static absl::StatusOr<std::unique_ptr<const RegularExpression>> Compile(
      const std::string& pattern);
  virtual ~RegularExpression() = default;

  // Appends the matches in `text`, in order. An empty one is a match too, unless it is where the
  // one before ended. Invalid bytes match nothing, and what lies between them is a text of its own.
  virtual absl::Status FindMatches(absl::string_view text, std::vector<Match>* matches) const = 0;
};

absl::StatusOr<std::unique_ptr<const Splitter>> MakePcre2Splitter(
    absl::Span<const std::string> patterns);

// The version of Unicode that PCRE2's classes have: "14.0.0".
std::string Pcre2UnicodeVersion();

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_PCRE2_SPLITTER_H_
