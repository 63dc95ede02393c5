// UTF-8, valid as in the Unicode standard, table 3-7: shortest forms, no surrogates, up to
// U+10FFFF. It is that of RFC 3629.
//
// What costs a loop over text little is inline. `data/tokenizer/words/char_scanner.h` alone decodes
// in a form of its own, without a check, since it steps over text that is known to be valid.
#ifndef STRAKE_CORE_BASE_UTF8_H_
#define STRAKE_CORE_BASE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace strake {

constexpr char32_t kMaxCodePoint = 0x10FFFF;

// Half a character of UTF-16: no character of UTF-8.
constexpr bool IsSurrogate(char32_t code_point) {
  return code_point >= 0xD800 && code_point <= 0xDFFF;
}

// Returns whether the byte is a character's second, third or fourth.
constexpr bool IsUtf8Continuation(char byte) { return (byte & 0xC0) == 0x80; }

// The number of bytes of a character that begins with this byte; 0 where none does.
constexpr int Utf8Bytes(char first_byte) {
  const auto first = static_cast<uint8_t>(first_byte);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

// A character at the beginning of text, or an invalid byte there.
struct Utf8Char {
  char32_t code_point;
  int num_bytes;  // 0: the first byte begins no valid character
};

inline Utf8Char DecodeUtf8(const char* begin, const char* end) {
  constexpr Utf8Char kInvalid = {0, 0};
  if (begin == end) return kInvalid;
  const int num_bytes = Utf8Bytes(*begin);
  if (num_bytes == 1) return {static_cast<char32_t>(*begin), 1};
  if (num_bytes == 0 || end - begin < num_bytes) return kInvalid;
  char32_t code_point = static_cast<uint8_t>(*begin) & (0x7F >> num_bytes);
  for (int i = 1; i < num_bytes; ++i) {
    if (!IsUtf8Continuation(begin[i])) return kInvalid;
    code_point = code_point << 6 | (begin[i] & 0x3F);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_valid =
      code_point >= kSmallest[num_bytes] && code_point <= kMaxCodePoint && !IsSurrogate(code_point);
  return is_valid ? Utf8Char{code_point, num_bytes} : kInvalid;
}

// Appends a code point up to kMaxCodePoint.
void AppendUtf8(char32_t code_point, std::string* text);
std::string EncodeUtf8(char32_t code_point);

// The number of bytes of the first character of a text that is not empty; an invalid byte counts as
// one.
size_t CharBytes(absl::string_view text);
// The same where the text may end within the character: the bytes that are there.
size_t BegunCharBytes(absl::string_view text);
// The number of bytes before the first invalid one.
size_t ValidUtf8Prefix(absl::string_view text);
// The number of bytes before the first valid character.
size_t InvalidUtf8Prefix(absl::string_view text);

inline bool IsUtf8(absl::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

}  // namespace strake

#endif  // STRAKE_CORE_BASE_UTF8_H_
