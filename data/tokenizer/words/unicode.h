// Classes of Unicode's characters, and UTF-8.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_UNICODE_H_
#define STRAKE_DATA_TOKENIZER_WORDS_UNICODE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace strake {

// A character has one of these.
enum CharClass : uint8_t {
  kUpperLetter = 1,   // Lu, Lt
  kLowerLetter = 2,   // Ll
  kOtherLetter = 4,   // Lm, Lo
  kMark = 8,          // M
  kNumber = 16,       // N
  kWhiteSpace = 32,   // White_Space: Z, U+0009 to U+000D, U+0085
  kPunctuation = 64,  // P, S
  kOtherChar = 128,   // C, but for white space
  kLetter = kUpperLetter | kLowerLetter | kOtherLetter,
};

constexpr char32_t kMaxCodePoint = 0x10FFFF;

// The class of each code point, in two stages: blocks of 256 code points, of which many are equal.
class CharClasses {
 public:
  static const CharClasses& Get();

  CharClass operator[](char32_t code_point) const {
    return blocks_[block_of_[code_point >> 8]][code_point & 255];
  }
  CharClass ascii(uint8_t byte) const { return blocks_[0][byte]; }

 private:
  CharClasses();

  std::array<uint8_t, (kMaxCodePoint >> 8) + 1> block_of_;
  std::vector<std::array<CharClass, 256>> blocks_;
};

// A character at the beginning of text, or an invalid byte there.
struct Utf8Char {
  char32_t code_point;
  int num_bytes;  // 0: the first byte begins no valid character
};

// Valid as in the Unicode standard, table 3-7: shortest forms, no surrogates, up to U+10FFFF.
Utf8Char DecodeUtf8(const char* begin, const char* end);
// The number of bytes of the first character of a text that is not empty; an invalid byte counts as
// one.
size_t CharBytes(absl::string_view text);
// The number of bytes before the first invalid one.
size_t ValidUtf8Prefix(absl::string_view text);
// The number of bytes before the first valid character.
size_t InvalidUtf8Prefix(absl::string_view text);

// The version of Unicode that classes have: "16.0.0", as in tiktoken 0.14 and Hugging Face's
// tokenizers 0.23. It does not depend on what is installed.
std::string UnicodeVersion();

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_UNICODE_H_
