#include "data/tokenizer/words/unicode.h"

#include <functional>
#include <iostream>
#include <utility>

#include "core/base/philox.h"
#include "data/tokenizer/words/pcre2_splitter.h"
#include "data/tokenizer/words/unicode_differences.h"
#include "gtest/gtest.h"
#include "utf8proc.h"

namespace strake {
namespace {

Utf8Char Decode(absl::string_view text) {
  return DecodeUtf8(text.data(), text.data() + text.size());
}

TEST(CharClassesTest, KnowsCharactersOfEachClass) {
  const CharClasses& classes = CharClasses::Get();
  EXPECT_EQ(classes['A'], kUpperLetter);
  EXPECT_EQ(classes[U'\u01C5'], kUpperLetter);  // Dž, a title-case letter
  EXPECT_EQ(classes[U'ß'], kLowerLetter);
  EXPECT_EQ(classes[U'\u02B0'], kOtherLetter);  // a modifier letter
  EXPECT_EQ(classes[U'漢'], kOtherLetter);
  EXPECT_EQ(classes[U'\u0301'], kMark);
  EXPECT_EQ(classes['7'], kNumber);
  EXPECT_EQ(classes[U'\u2167'], kNumber);  // a roman numeral
  EXPECT_EQ(classes[U'\u00BD'], kNumber);  // a fraction
  EXPECT_EQ(classes['_'], kPunctuation);
  EXPECT_EQ(classes['+'], kPunctuation);
  EXPECT_EQ(classes[U'\U0001F600'], kPunctuation);
  EXPECT_EQ(classes[U'\u200B'], kOtherChar);  // a format character
  EXPECT_EQ(classes['\0'], kOtherChar);
  EXPECT_EQ(classes[kMaxCodePoint], kOtherChar);
}

TEST(CharClassesTest, HasTheWhiteSpaceOfUnicode) {
  std::vector<char32_t> found;
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) {
    if (CharClasses::Get()[c] == kWhiteSpace) found.push_back(c);
  }
  // PropList.txt, White_Space.
  const std::vector<char32_t> expected = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,
                                          0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                          0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028,
                                          0x2029, 0x202F, 0x205F, 0x3000};
  EXPECT_TRUE(found == expected) << found.size();
}

// The table's other witnesses. Where versions of Unicode differ, one of them must not know the
// character: 14.0 to 16.0 added 10,301. There is a difference where there are two versions.
void ExpectDifferencesInNewCharactersAlone(const std::string& version,
                                           const std::function<CharClass(char32_t)>& class_of) {
  int64_t num_differences = 0;
  for (char32_t c = 0; c <= kMaxCodePoint; ++c) {
    const CharClass ours = CharClasses::Get()[c], other = class_of(c);
    if (IsSurrogate(c) || ours == other) continue;
    ++num_differences;
    EXPECT_TRUE(ours == kOtherChar || other == kOtherChar)
        << "U+" << std::hex << uint32_t{c} << ": " << int{ours} << " and " << int{other};
  }
  std::cout << num_differences << " code points differ from version " << version << '\n';
  EXPECT_EQ(num_differences == 0, version == UnicodeVersion());
  EXPECT_LT(num_differences, 20000);
}

TEST(CharClassesTest, DiffersFromPcre2InNewCharactersAlone) {
  ExpectDifferencesInNewCharactersAlone(Pcre2UnicodeVersion(),
                                        [](char32_t c) { return Pcre2Classes()[c]; });
}

CharClass Utf8procClass(char32_t c) {
  const std::string category = utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
  if (category[0] == 'Z' || (c >= 0x09 && c <= 0x0D) || c == 0x85) return kWhiteSpace;
  if (category == "Lu" || category == "Lt") return kUpperLetter;
  if (category == "Ll") return kLowerLetter;
  constexpr std::pair<char, CharClass> kByFirst[] = {
      {'L', kOtherLetter}, {'M', kMark}, {'N', kNumber}, {'P', kPunctuation}, {'S', kPunctuation}};
  for (const auto& [first, char_class] : kByFirst) {
    if (category[0] == first) return char_class;
  }
  return kOtherChar;
}

TEST(CharClassesTest, DiffersFromUtf8procInNewCharactersAlone) {
  ExpectDifferencesInNewCharactersAlone(utf8proc_unicode_version(), Utf8procClass);
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

}  // namespace
}  // namespace strake
