// CharScanner: steps over the characters of valid UTF-8 by class.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_CHAR_SCANNER_H_
#define STRAKE_DATA_TOKENIZER_WORDS_CHAR_SCANNER_H_

#include <bit>
#include <cstdint>
#include <cstring>

#include "data/tokenizer/words/unicode.h"

namespace strake {

// Eight bytes of text in an integer, the first one lowest. Answers stand in bit 7 of each byte.
namespace eight_bytes {

constexpr uint64_t kOnes = 0x0101010101010101;
constexpr uint64_t kHighBits = 0x80 * kOnes;

inline uint64_t Load(const char* p) {
  uint64_t bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  if constexpr (std::endian::native == std::endian::big) bytes = __builtin_bswap64(bytes);
  return bytes;
}

constexpr bool AreAscii(uint64_t bytes) { return (bytes & kHighBits) == 0; }

// The bytes of ASCII from `low` to `high`. No sum carries: both of its terms are below 128.
constexpr uint64_t InRange(uint64_t bytes, char low, char high) {
  const uint64_t ascii = bytes & ~kHighBits;
  const uint64_t at_least = ascii + (0x80 - low) * kOnes;
  const uint64_t above = ascii + (0x7F - high) * kOnes;
  return at_least & ~above & ~bytes & kHighBits;
}
constexpr uint64_t LowerLetters(uint64_t bytes) { return InRange(bytes, 'a', 'z'); }
constexpr uint64_t Letters(uint64_t bytes) { return LowerLetters(bytes | 0x20 * kOnes); }

constexpr uint64_t NoDigits(uint64_t bytes) {
  return ~(bytes | InRange(bytes, '0', '9')) & kHighBits;
}

// The number of bytes before the first for which the answer is no: 8 if there is none.
constexpr int CountYes(uint64_t answers) { return std::countr_one(answers | ~kHighBits) / 8; }

}  // namespace eight_bytes

inline bool IsAscii(char byte) { return static_cast<uint8_t>(byte) < 0x80; }

struct ScannedChar {
  const char* end;
  CharClass char_class;
  char32_t code_point;
};

// Places are where a character begins, or the end of the text.
class CharScanner {
 public:
  // The character at `p`, which is not the end.
  ScannedChar At(const char* p) const {
    const uint8_t first = *p;
    if (IsAscii(*p)) return {p + 1, classes_->ascii(first), first};
    return AtMultiByte(p);
  }

  // The end of a run of characters of these classes.
  const char* Skip(const char* p, const char* end, uint8_t classes) const {
    while (p < end) {
      const ScannedChar c = At(p);
      if (!(c.char_class & classes)) break;
      p = c.end;
    }
    return p;
  }
  const char* SkipAtMost(int num_chars, const char* p, const char* end, uint8_t classes) const {
    for (; num_chars > 0 && p < end; --num_chars) {
      const ScannedChar c = At(p);
      if (!(c.char_class & classes)) break;
      p = c.end;
    }
    return p;
  }

  // Skip() where `classes` has letters and marks: all letters, or all but upper-case ones.
  const char* SkipLetters(const char* p, const char* end, uint8_t classes) const {
    return SkipByEight<eight_bytes::Letters>(p, end, classes);
  }
  const char* SkipLowerLetters(const char* p, const char* end, uint8_t classes) const {
    return SkipByEight<eight_bytes::LowerLetters>(p, end, classes);
  }

  // The end of a run of ASCII without digits.
  static const char* SkipAsciiWithoutDigits(const char* p, const char* end) {
    while (end - p >= 8) {
      const int num_skipped = eight_bytes::CountYes(eight_bytes::NoDigits(eight_bytes::Load(p)));
      p += num_skipped;
      if (num_skipped < 8) return p;
    }
    while (p < end && IsAscii(*p) && (*p < '0' || *p > '9')) ++p;
    return p;
  }
  static const char* SkipAsciiLetters(const char* p, const char* end) {
    const auto is_letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
    while (p < end && is_letter(*p)) ++p;
    return p;
  }

 private:
  template <uint64_t (*kAnswers)(uint64_t)>
  const char* SkipByEight(const char* p, const char* end, uint8_t classes) const {
    while (end - p >= 8) {
      const int num_letters = eight_bytes::CountYes(kAnswers(eight_bytes::Load(p)));
      p += num_letters;
      if (num_letters == 8) continue;
      if (IsAscii(*p)) return p;
      do {
        const ScannedChar c = AtMultiByte(p);
        if (!(c.char_class & classes)) return p;
        p = c.end;
      } while (p < end && !IsAscii(*p));
    }
    return Skip(p, end, classes);
  }

  // DecodeUtf8() without its checks, which the text has passed: this is the innermost loop.
  ScannedChar AtMultiByte(const char* p) const {
    const auto bits = [p](int i) { return static_cast<char32_t>(p[i] & 0x3F); };
    const uint8_t first = *p;
    if (first < 0xE0) return Classified(p + 2, (first & 0x1Fu) << 6 | bits(1));
    if (first < 0xF0) return Classified(p + 3, (first & 0xFu) << 12 | bits(1) << 6 | bits(2));
    return Classified(p + 4, (first & 7u) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3));
  }
  ScannedChar Classified(const char* end, char32_t code_point) const {
    return {end, (*classes_)[code_point], code_point};
  }

  const CharClasses* classes_ = &CharClasses::Get();
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_CHAR_SCANNER_H_
