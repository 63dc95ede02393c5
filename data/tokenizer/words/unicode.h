// Classes of Unicode's characters.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_UNICODE_H_
#define STRAKE_DATA_TOKENIZER_WORDS_UNICODE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/utf8.h"

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

// The version of Unicode that classes have: "16.0.0", as in tiktoken 0.14 and Hugging Face's
// tokenizers 0.23. It does not depend on what is installed.
std::string UnicodeVersion();

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_UNICODE_H_
