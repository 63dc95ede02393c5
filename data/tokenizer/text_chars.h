// Classes of characters that Hugging Face's tokenizers asks for by name, rather than in a pattern.
#ifndef STRAKE_DATA_TOKENIZER_TEXT_CHARS_H_
#define STRAKE_DATA_TOKENIZER_TEXT_CHARS_H_

#include <cstddef>

#include "absl/strings/string_view.h"

namespace strake {

// Unicode's White_Space.
bool IsWhiteSpace(char32_t c);
// \w: Alphabetic, marks, decimal digits, connectors such as "_", and the joiners.
bool IsWordChar(char32_t c);

// The number of bytes of white space at the end and at the beginning.
size_t TrailingWhiteSpace(absl::string_view text);
size_t LeadingWhiteSpace(absl::string_view text);

// False for an empty text.
bool EndsWithWordChar(absl::string_view text);
bool BeginsWithWordChar(absl::string_view text);

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_TEXT_CHARS_H_
