#include "core/base/utf8.h"

#include <cstdint>
#include <iterator>
#include <string>

#include "absl/strings/string_view.h"
#include "core/base/philox.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

Utf8Char Decode(absl::string_view text) {
  return DecodeUtf8(text.data(), text.data() + text.size());
}

TEST(Utf8Test, AppendsTheBytesOfEachLength) {
  std::string text = "x";
  for (const char32_t c : {U'~', U'\u00e9', U'\u4e2d', U'\U0001f6a2'}) AppendUtf8(c, &text);
  EXPECT_EQ(text, "x~\xc3\xa9\xe4\xb8\xad\xf0\x9f\x9a\xa2");
}

TEST(Utf8Test, DecodesEveryCodePoint) {
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) {
    const std::string text = EncodeUtf8(c);
    const Utf8Char decoded = Decode(text + "\x80");
    if (IsSurrogate(c)) {
      ASSERT_EQ(decoded.num_bytes, 0) << uint32_t{c};
      continue;
    }
    ASSERT_TRUE(decoded.code_point == c) << uint32_t{c};
    ASSERT_EQ(decoded.num_bytes, text.size()) << uint32_t{c};
    ASSERT_EQ(ValidUtf8Prefix(text), text.size()) << uint32_t{c};
    ASSERT_EQ(InvalidUtf8Prefix(text), 0) << uint32_t{c};
    ASSERT_EQ(Utf8Bytes(text[0]), text.size()) << uint32_t{c};
    ASSERT_EQ(CharBytes(text + "\x80"), text.size()) << uint32_t{c};
    // Without its last byte it is none.
    ASSERT_EQ(Decode(absl::string_view(text).substr(0, text.size() - 1)).num_bytes, 0)
        << uint32_t{c};
  }
}

TEST(Utf8Test, RefusesWhatIsNotShortestOrTooLarge) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xED\xBF\xBF", "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFE", "\xFF", "\xC3\x28", "\xE2\x82\x28", "\xF0\x9F\x98\x28"}) {
    EXPECT_EQ(Decode(text).num_bytes, 0) << text;
  }
}

// One definition: a text is valid where every prefix of two to four bytes is in table 3-7 of the
// standard, which this states as ranges of the second byte.
size_t ValidPrefixByTable(absl::string_view text) {
  const auto byte = [text](size_t i) -> int { return static_cast<uint8_t>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const int first = byte(i);
    const size_t size = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first >= 0x80 && (first < 0xC2 || first > 0xF4)) return i;
    if (i + size > text.size()) return i;
    const int low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const int high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (size > 1 && (byte(i + 1) < low || byte(i + 1) > high)) return i;
    for (size_t j = 2; j < size; ++j) {
      if ((byte(i + j) & 0xC0) != 0x80) return i;
    }
    i += size;
  }
  return text.size();
}

std::string Repeated(const std::string& text, int64_t times) {
  std::string repeated;
  for (; times > 0; --times) repeated += text;
  return repeated;
}

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  constexpr uint8_t kBytes[] = {'a',  'b',  0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2,
                                0xE0, 0xE4, 0xED, 0xF0, 0xF1, 0xF4, 0xF5, 0xC1};
  const Philox random(1, RandomUse::kTesting);
  int64_t index = 0, num_valid = 0, num_invalid = 0;
  for (int i = 0; i < 300000; ++i) {
    // Long texts have the path by blocks too.
    std::string text = Repeated(i % 2 ? "x" : "\xE6\xBC\xA2", random.Bits(index++) % 30);
    for (uint64_t j = random.Bits(index++) % 6; j > 0; --j) {
      text.push_back(kBytes[random.Bits(index++) % std::size(kBytes)]);
    }
    const size_t expected = ValidPrefixByTable(text);
    (expected == text.size() ? num_valid : num_invalid) += 1;
    ASSERT_EQ(ValidUtf8Prefix(text), expected);
    const absl::string_view rest = absl::string_view(text).substr(expected);
    const size_t invalid = InvalidUtf8Prefix(rest);
    ASSERT_EQ(invalid > 0, !rest.empty());
    for (size_t j = 0; j < invalid; ++j) ASSERT_EQ(Decode(rest.substr(j)).num_bytes, 0);
  }
  EXPECT_GT(num_valid, 10000);
  EXPECT_GT(num_invalid, 10000);
}

// All bytes are those of one character where each beginning of the text can go on to a valid one.
bool CanBecomeValid(const std::string& text) {
  if (IsUtf8(text)) return true;
  if (text.size() == 4) return false;
  for (int byte = 0x80; byte < 0xC0; ++byte) {
    if (CanBecomeValid(text + static_cast<char>(byte))) return true;
  }
  return false;
}

TEST(Utf8Test, BegunCharactersCanBecomeValid) {
  constexpr uint8_t kBytes[] = {'a',  0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1,
                                0xC2, 0xE0, 0xE4, 0xED, 0xF0, 0xF1, 0xF4, 0xF5};
  for (const uint8_t first : kBytes) {
    for (const uint8_t second : kBytes) {
      for (const uint8_t third : kBytes) {
        const std::string text = {static_cast<char>(first), static_cast<char>(second),
                                  static_cast<char>(third)};
        size_t expected = 1;
        while (expected < 3 && Utf8Bytes(text[0]) > expected &&
               CanBecomeValid(text.substr(0, expected + 1))) {
          ++expected;
        }
        ASSERT_EQ(BegunCharBytes(text), expected) << int{first} << " " << int{second};
      }
    }
  }
}

TEST(Utf8Test, TellsWhetherATextIsUtf8) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("\u00fc\n\ufffd"));
  EXPECT_FALSE(IsUtf8("/tmp/\xff"));
  EXPECT_FALSE(IsUtf8("\xe4\xb8"));
}

}  // namespace
}  // namespace strake
