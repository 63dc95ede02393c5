#include "core/base/utf8.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace strake {
namespace {

// The end of the ASCII that comes first, eight bytes at a time.
const char* SkipAscii(const char* p, const char* end) {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  for (uint64_t eight; end - p >= sizeof(eight); p += sizeof(eight)) {
    std::memcpy(&eight, p, sizeof(eight));
    if (eight & kHighBits) break;
  }
  return p;
}

// A finite automaton of table 3-7, without a branch for each byte: bits 6 s to 6 s + 5 of a byte's
// entry are 6 times the state that follows state s.
//
// Source: Per Vognsen, shift-based deterministic finite automata.
class Utf8Automaton {
 public:
  static constexpr uint64_t kInvalid = 0, kBetweenChars = 6;

  constexpr Utf8Automaton() {
    Add(kBetweenChars, 0x00, 0x7F, kBetweenChars);
    Add(kBetweenChars, 0xC2, 0xDF, kOneMore);
    Add(kBetweenChars, 0xE0, 0xE0, kAfterE0);
    Add(kBetweenChars, 0xE1, 0xEF, kTwoMore);
    Add(kBetweenChars, 0xED, 0xED, kAfterED);
    Add(kBetweenChars, 0xF0, 0xF0, kAfterF0);
    Add(kBetweenChars, 0xF1, 0xF3, kThreeMore);
    Add(kBetweenChars, 0xF4, 0xF4, kAfterF4);
    Add(kOneMore, 0x80, 0xBF, kBetweenChars);
    Add(kTwoMore, 0x80, 0xBF, kOneMore);
    Add(kThreeMore, 0x80, 0xBF, kTwoMore);
    Add(kAfterE0, 0xA0, 0xBF, kOneMore);
    Add(kAfterED, 0x80, 0x9F, kOneMore);
    Add(kAfterF0, 0x90, 0xBF, kTwoMore);
    Add(kAfterF4, 0x80, 0x8F, kTwoMore);
  }

  uint64_t Next(uint64_t state, char byte) const {
    return next_[static_cast<uint8_t>(byte)] >> state & 63;
  }

 private:
  static constexpr uint64_t kOneMore = 12, kTwoMore = 18, kThreeMore = 24, kAfterE0 = 30,
                            kAfterED = 36, kAfterF0 = 42, kAfterF4 = 48;

  constexpr void Add(uint64_t state, int first_byte, int last_byte, uint64_t next) {
    for (int byte = first_byte; byte <= last_byte; ++byte) {
      next_[byte] = (next_[byte] & ~(uint64_t{63} << state)) | next << state;
    }
  }

  std::array<uint64_t, 256> next_ = {};
};

constexpr Utf8Automaton kUtf8Automaton;

// The end of a beginning of the text that is valid, and whole characters, in large steps: what is
// left may be valid too.
const char* SkipValidBlocks(const char* p, const char* end) {
  constexpr int kBlock = 32;
  const char* valid_end = p;
  uint64_t state = Utf8Automaton::kBetweenChars;
  while (true) {
    if (state == Utf8Automaton::kBetweenChars) valid_end = p = SkipAscii(p, end);
    if (end - p < kBlock) return valid_end;
    for (int i = 0; i < kBlock; ++i) state = kUtf8Automaton.Next(state, p[i]);
    if (state == Utf8Automaton::kInvalid) return valid_end;
    p += kBlock;
  }
}

struct ByteRange {
  uint8_t first, last;
  bool Has(char c) const {
    const auto byte = static_cast<uint8_t>(c);
    return byte >= first && byte <= last;
  }
};

// The bytes that may come second.
ByteRange SecondBytes(char first) {
  switch (static_cast<uint8_t>(first)) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

}  // namespace

void AppendUtf8(char32_t c, std::string* text) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    text->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text->append({static_cast<char>(0xC0 | c >> 6), tail(0)});
  } else if (c < 0x10000) {
    text->append({static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)});
  } else {
    text->append({static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)});
  }
}

std::string EncodeUtf8(char32_t code_point) {
  std::string text;
  AppendUtf8(code_point, &text);
  return text;
}

size_t CharBytes(absl::string_view text) {
  return std::max(DecodeUtf8(text.data(), text.data() + text.size()).num_bytes, 1);
}

size_t BegunCharBytes(absl::string_view text) {
  const size_t wanted = std::min<size_t>(Utf8Bytes(text[0]), text.size());
  if (wanted < 2 || !SecondBytes(text[0]).Has(text[1])) return 1;
  size_t size = 2;
  while (size < wanted && IsUtf8Continuation(text[size])) ++size;
  return size;
}

size_t ValidUtf8Prefix(absl::string_view text) {
  const char* const end = text.data() + text.size();
  const char* p = SkipValidBlocks(text.data(), end);
  while (const int num_bytes = DecodeUtf8(p, end).num_bytes) p += num_bytes;
  return p - text.data();
}

size_t InvalidUtf8Prefix(absl::string_view text) {
  const char* const end = text.data() + text.size();
  size_t i = 0;
  while (i < text.size() && DecodeUtf8(text.data() + i, end).num_bytes == 0) ++i;
  return i;
}

}  // namespace strake
