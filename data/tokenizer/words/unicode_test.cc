#include "data/tokenizer/words/unicode.h"

#include <functional>
#include <iostream>
#include <utility>

#include "data/tokenizer/words/pcre2_splitter.h"
#include "data/tokenizer/words/unicode_differences.h"
#include "gtest/gtest.h"
#include "utf8proc.h"

namespace strake {
namespace {

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

}  // namespace
}  // namespace strake
