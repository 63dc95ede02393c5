#include "data/tokenizer/words/unicode.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "data/tokenizer/words/unicode_table.h"
#include "glog/logging.h"

namespace strake {
namespace {

std::vector<CharClass> ExpandRuns() {
  std::vector<CharClass> classes;
  classes.reserve(kMaxCodePoint + 1);
  for (size_t i = 0; i < kNumClassRuns; ++i) {
    const auto char_class = static_cast<CharClass>(1 << (kClassRuns[i] & 7));
    classes.insert(classes.end(), kClassRuns[i] >> 3, char_class);
  }
  CHECK_EQ(classes.size(), kMaxCodePoint + 1);
  return classes;
}

bool IsContinuation(char byte) { return (byte & 0xC0) == 0x80; }

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

}  // namespace

const CharClasses& CharClasses::Get() {
  static const auto* const classes = new CharClasses;
  return *classes;
}

CharClasses::CharClasses() {
  const std::vector<CharClass> classes = ExpandRuns();
  std::map<std::array<CharClass, 256>, uint8_t> known;
  for (size_t i = 0; i < block_of_.size(); ++i) {
    std::array<CharClass, 256> block;
    std::copy_n(classes.begin() + (i << 8), block.size(), block.begin());
    const auto [entry, is_new] = known.emplace(block, blocks_.size());
    if (is_new) blocks_.push_back(block);
    block_of_[i] = entry->second;
  }
  CHECK_LE(blocks_.size(), 256) << "the index of a block has a byte";
}

Utf8Char DecodeUtf8(const char* begin, const char* end) {
  constexpr Utf8Char kInvalid = {0, 0};
  if (begin == end) return kInvalid;
  const uint8_t first = *begin;
  if (first < 0x80) return {first, 1};
  const int num_bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || end - begin < num_bytes) return kInvalid;
  char32_t code_point = first & (0x7F >> num_bytes);
  for (int i = 1; i < num_bytes; ++i) {
    if (!IsContinuation(begin[i])) return kInvalid;
    code_point = code_point << 6 | (begin[i] & 0x3F);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  if (code_point < kSmallest[num_bytes] || code_point > kMaxCodePoint || is_surrogate) {
    return kInvalid;
  }
  return {code_point, num_bytes};
}

size_t CharBytes(absl::string_view text) {
  return std::max(DecodeUtf8(text.data(), text.data() + text.size()).num_bytes, 1);
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

std::string UnicodeVersion() { return kUnicodeVersion; }

}  // namespace strake
