// Code points whose class PCRE2 has otherwise, since its version of Unicode is another one. Tests
// that compare with PCRE2 leave them out.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_UNICODE_DIFFERENCES_H_
#define STRAKE_DATA_TOKENIZER_WORDS_UNICODE_DIFFERENCES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "data/tokenizer/words/unicode.h"

namespace strake {

// The class of each code point by PCRE2's properties; 0 for surrogates, which no text holds.
const std::vector<CharClass>& Pcre2Classes();

// The text without these code points. Invalid bytes stay.
std::string WithoutDifferences(absl::string_view text);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_UNICODE_DIFFERENCES_H_
