#include "data/tokenizer/text_chars.h"

#include <utf8proc.h>

#include "core/base/utf8.h"
#include "data/tokenizer/words/unicode.h"

namespace strake {
namespace {

constexpr char32_t kNoChar = 0xFFFFFFFF;

char32_t FirstChar(absl::string_view text, int* num_bytes) {
  const Utf8Char first = DecodeUtf8(text.data(), text.data() + text.size());
  *num_bytes = first.num_bytes;
  return first.num_bytes == 0 ? kNoChar : first.code_point;
}

char32_t LastChar(absl::string_view text, int* num_bytes) {
  for (int size = 1; size <= 4 && size <= text.size(); ++size) {
    const char32_t last = FirstChar(text.substr(text.size() - size), num_bytes);
    if (*num_bytes == size) return last;
  }
  return kNoChar;
}

// Circled and squared letters are Alphabetic, though their category is that of symbols.
bool IsAlphabeticSymbol(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

}  // namespace

bool IsWhiteSpace(char32_t c) { return c <= kMaxCodePoint && CharClasses::Get()[c] == kWhiteSpace; }

bool IsWordChar(char32_t c) {
  if (c > kMaxCodePoint) return false;
  const CharClass char_class = CharClasses::Get()[c];
  if ((char_class & (kLetter | kMark)) != 0) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D || IsAlphabeticSymbol(c);
  }
}

size_t TrailingWhiteSpace(absl::string_view text) {
  size_t end = text.size();
  for (int num_bytes; IsWhiteSpace(LastChar(text.substr(0, end), &num_bytes));) end -= num_bytes;
  return text.size() - end;
}

size_t LeadingWhiteSpace(absl::string_view text) {
  size_t begin = 0;
  for (int num_bytes; IsWhiteSpace(FirstChar(text.substr(begin), &num_bytes));) {
    begin += num_bytes;
  }
  return begin;
}

bool EndsWithWordChar(absl::string_view text) {
  int num_bytes;
  return IsWordChar(LastChar(text, &num_bytes));
}

bool BeginsWithWordChar(absl::string_view text) {
  int num_bytes;
  return IsWordChar(FirstChar(text, &num_bytes));
}

}  // namespace strake
