#include "data/tokenizer/words/splitter.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_join.h"
#include "core/base/philox.h"
#include "core/base/utf8.h"
#include "data/tokenizer/words/known_patterns.h"
#include "data/tokenizer/words/pattern_splitter.h"
#include "data/tokenizer/words/pcre2_splitter.h"
#include "data/tokenizer/words/unicode_differences.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;

using Patterns = std::vector<std::string>;

constexpr char kLlama3[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                           R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kO200k[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<uint32_t> Ends(const Splitter& splitter, absl::string_view text) {
  std::vector<uint32_t> ends;
  const absl::Status status = splitter.Split(text, &ends);
  EXPECT_TRUE(status.ok()) << status;
  return ends;
}

std::vector<std::string> WordsAt(const std::vector<uint32_t>& ends, const std::string& text) {
  std::vector<std::string> words;
  for (uint32_t begin = 0; const uint32_t end : ends) {
    words.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

std::vector<std::string> Words(const Patterns& patterns, const std::string& text) {
  const auto splitter = MakePatternSplitter(patterns);
  EXPECT_NE(splitter, nullptr);
  return WordsAt(Ends(*splitter, text), text);
}

// A known pattern's function beside its definition.
struct Pair {
  explicit Pair(const Patterns& patterns)
      : name(absl::StrJoin(patterns, " then ")),
        known(MakePatternSplitter(patterns)),
        definition(MakePcre2Splitter(patterns).value()) {}

  // Whether both give the same words; says which, where they differ.
  bool Agree(const std::string& text) const {
    const std::vector<uint32_t> ours = Ends(*known, text);
    const std::vector<uint32_t> theirs = Ends(*definition, text);
    if (ours == theirs) return true;
    const size_t begin = FirstDifference(ours, theirs);
    ADD_FAILURE() << name << "\nfrom byte " << begin << " on of\n"
                  << ::testing::PrintToString(text.substr(begin, 200))
                  << "\nknown: " << ::testing::PrintToString(WordsFrom(begin, ours, text))
                  << "\nPCRE2: " << ::testing::PrintToString(WordsFrom(begin, theirs, text));
    return false;
  }

  static size_t FirstDifference(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
    size_t i = 0;
    while (i < a.size() && i < b.size() && a[i] == b[i]) ++i;
    return i == 0 ? 0 : a[i - 1];
  }
  static std::vector<std::string> WordsFrom(size_t begin, const std::vector<uint32_t>& ends,
                                            const std::string& text) {
    std::vector<uint32_t> rest;
    for (const uint32_t end : ends) {
      if (end > begin && rest.size() < 3) rest.push_back(end - begin);
    }
    return WordsAt(rest, text.substr(begin));
  }

  std::string name;
  std::unique_ptr<const Splitter> known, definition;
};

const std::vector<Pair>& Pairs() {
  static const auto* const pairs = [] {
    auto* made = new std::vector<Pair>;
    for (const Patterns& patterns : KnownPatterns()) made->emplace_back(patterns);
    return made;
  }();
  return *pairs;
}

// Every text, by every pattern, up to the first that differs.
void ExpectAgreement(const std::function<std::string(int64_t)>& text_of, int64_t num_texts) {
  for (int64_t i = 0; i < num_texts; ++i) {
    const std::string text = text_of(i);
    for (const Pair& pair : Pairs()) ASSERT_TRUE(pair.Agree(text));
  }
}

// A character or two of every kind that some pattern treats by itself.
const Patterns& Alphabet() {
  static const auto* const alphabet = new Patterns{"a",          "s",
                                                   "L",          "S",
                                                   "ß",          "É",
                                                   "\u01C5",     "\u02B0",
                                                   "漢",         "ア",
                                                   "\u30FB",     "\u3040",
                                                   "\u0301",     "\u0903",
                                                   "7",          "٣",
                                                   "\u2167",     "\u00BD",
                                                   " ",          "\t",
                                                   "\n",         "\r",
                                                   "\u00A0",     "\u0085",
                                                   "\u2028",     "\u3000",
                                                   "'",          "(",
                                                   "/",          "+",
                                                   "_",          "。",
                                                   "’",          "\u017F",
                                                   "\u212A",     "\u200B",
                                                   "\u180E",     std::string(1, '\0'),
                                                   "\U0001F600", "\uFEFF"};
  return *alphabet;
}

// What random texts are made of beside: pieces that patterns tell apart.
const Patterns& Pieces() {
  static const auto* const pieces = [] {
    auto* made = new Patterns(Alphabet());
    for (const char* piece : {"'s",
                              "'S",
                              "'re",
                              "'Ve",
                              "'lL",
                              "'\u017F",
                              "'d",
                              "'M",
                              "'T",
                              "  ",
                              "   ",
                              "\n\n",
                              "\r\n",
                              " \n",
                              "\n ",
                              "the",
                              "THE",
                              "camelCase",
                              "漢字",
                              "12",
                              "12345",
                              "//",
                              "...",
                              "!\n",
                              " (",
                              "A\u0301",
                              "漢A",
                              "longer",
                              "lettersandmore",
                              "ABCDEFGHIJ",
                              "ééé"}) {
      made->push_back(piece);
    }
    return made;
  }();
  return *pieces;
}

// A function of `i`: up to 16 pieces.
std::string RandomText(const Patterns& pieces, uint64_t seed, int64_t i) {
  const Philox random(seed, RandomUse::kTesting, i);
  std::string text;
  const uint64_t num_pieces = random.Bits(0) % 16;
  for (uint64_t j = 1; j <= num_pieces; ++j) text += pieces[random.Bits(j) % pieces.size()];
  return text;
}

TEST(KnownPatternTest, AllAreKnown) {
  EXPECT_GE(Pairs().size(), 12);
  for (const Pair& pair : Pairs()) EXPECT_NE(pair.known, nullptr) << pair.name;
}

TEST(KnownPatternTest, AgreesWithPcre2OnUpToThreeCharacters) {
  // Nothing stands for no character.
  Patterns letters = Alphabet();
  letters.push_back("");
  const int64_t n = letters.size();
  ExpectAgreement(
      [&](int64_t i) { return letters[i / n / n] + letters[i / n % n] + letters[i % n]; },
      n * n * n);
}

TEST(KnownPatternTest, AgreesWithPcre2OnRandomTexts) {
  ExpectAgreement([](int64_t i) { return RandomText(Pieces(), 1, i); }, 20000);
}

// Texts of several blocks of 64 bytes, with little that ends a block early.
TEST(KnownPatternTest, AgreesWithPcre2OnLongTexts) {
  const Patterns words = {"a",       "I",  "the",  "Word", "lettersandmore",
                          "LETTERS", " ",  " ",    " ",    "  ",
                          "\t",      "\n", "\r\n", "\n\n", "\n ",
                          " \n",     "1",  "22",   "333",  "4444",
                          ".",       ", ", "(",    ") ",   "//",
                          "\x01",    "_",  "\v",   "x"};
  const Patterns rare = {"'s", "'", "é", "漢", "\u00A0", "\u3000", "\u0085", "'LL", "\u0301"};
  ExpectAgreement(
      [&](int64_t i) {
        const Philox random(3, RandomUse::kTesting, i);
        std::string text;
        for (uint64_t j = 0; j < 200; j += 2) {
          const bool is_rare = random.Bits(j) % (i % 50 + 2) == 0;
          const Patterns& pieces = is_rare ? rare : words;
          text += pieces[random.Bits(j + 1) % pieces.size()];
        }
        return text;
      },
      10000);
}

TEST(KnownPatternTest, AgreesWithPcre2OnInvalidUtf8) {
  Patterns pieces = Pieces();
  for (const char* invalid : {"\x80", "\xC3", "\xE4\xB8", "\xFF", "\xED\xA0\x80", "\xF0\x9F\x98",
                              "\xC0\xAF", "\xF4\x90\x80\x80"}) {
    for (int i = 0; i < 4; ++i) pieces.push_back(invalid);
  }
  ExpectAgreement([&](int64_t i) { return RandomText(pieces, 2, i); }, 15000);
}

// Whether to compare patterns on the code point: most have the class of both neighbours, and of
// these a sample will do, since unicode_test.cc looks at each.
bool IsOfUse(char32_t c) {
  const CharClasses& classes = CharClasses::Get();
  if (IsSurrogate(c) || classes[c] != Pcre2Classes()[c]) return false;
  if (c < 0x3000 || c == kMaxCodePoint || c % 50 == 0) return true;
  return classes[c - 1] != classes[c] || classes[c + 1] != classes[c];
}

// Among letters, blanks, numbers and punctuation.
TEST(KnownPatternTest, AgreesWithPcre2OnCodePointsOfEveryBlock) {
  constexpr int64_t kBlock = 4096;
  ExpectAgreement(
      [](int64_t block) {
        std::string text;
        for (char32_t c = block * kBlock; c < (block + 1) * kBlock; ++c) {
          if (!IsOfUse(c)) continue;
          const std::string s = EncodeUtf8(c);
          text += s + "a" + s + s + "B " + s + "1" + s + "\n(" + s + "'s'" + s;
        }
        return text;
      },
      (kMaxCodePoint + 1) / kBlock);
}

TEST(KnownPatternTest, AgreesWithPcre2OnLongRuns) {
  for (const Pair& pair : Pairs()) {
    for (const std::string& letter : Alphabet()) {
      std::string text;
      while (text.size() < 5000) text += letter;
      EXPECT_TRUE(pair.Agree(text));
      EXPECT_TRUE(pair.Agree("x" + text + "x"));
    }
  }
}

// Ends come in blocks, and each text adds to what is there.
TEST(KnownPatternTest, AppendsTheEnds) {
  const auto splitter = MakePatternSplitter({kGpt2Words});
  std::string text;
  std::vector<uint32_t> expected = {5};
  while (expected.size() < 3000) {
    text += " a";
    expected.push_back(text.size());
  }
  std::vector<uint32_t> ends = {5};
  ASSERT_TRUE(splitter->Split(text, &ends).ok());
  EXPECT_EQ(ends, expected);
  ASSERT_TRUE(splitter->Split("", &ends).ok());
  EXPECT_EQ(ends, expected);
}

TEST(KnownPatternTest, SplitsExamplesByGpt2) {
  EXPECT_THAT(Words({kGpt2Words}, "I'll say: 2nd  time\n\n ok"),
              ElementsAre("I", "'ll", " say", ":", " 2", "nd", " ", " time", "\n\n", " ok"));
}

TEST(KnownPatternTest, SplitsExamplesByLlama3) {
  EXPECT_THAT(
      Words({kLlama3}, "I'LL (say): 12345\tx!\n\n  ok"),
      ElementsAre("I", "'LL", " (", "say", "):", " ", "123", "45", "\tx", "!\n\n", " ", " ok"));
}

TEST(KnownPatternTest, SplitsExamplesByO200k) {
  EXPECT_THAT(Words({kO200k}, "HTMLParser camelCase don't ABC/\n/"),
              ElementsAre("HTMLParser", " camel", "Case", " don't", " ABC", "/\n/"));
}

TEST(KnownPatternTest, SplitsExamplesOfSingleDigits) {
  EXPECT_THAT(Words({kDigitPattern, kGpt2Words}, "in 2024 "),
              ElementsAre("in", " ", "2", "0", "2", "4", " "));
  EXPECT_THAT(Words({kDigitsPattern, kGpt2Words}, "in 2024 "), ElementsAre("in", " ", "2024", " "));
}

TEST(MakeSplitterTest, KnowsLineEndsInAnySpelling) {
  std::string pattern = kLlama3;
  for (size_t at; (at = pattern.find("\\r\\n")) != std::string::npos;) {
    pattern.replace(at, 4, "\r\n");
  }
  EXPECT_NE(MakePatternSplitter({pattern}), nullptr);
  EXPECT_EQ(MakePatternSplitter({pattern + "|x"}), nullptr);
  EXPECT_EQ(MakePatternSplitter({}), nullptr);
}

TEST(MakeSplitterTest, TakesPcre2ForUnknownPatterns) {
  const Patterns patterns = {"[a-c]+"};
  const auto splitter = MakeSplitter(patterns);
  ASSERT_TRUE(splitter.ok()) << splitter.status();
  EXPECT_THAT(Ends(**splitter, "abcde"), ElementsAre(3, 5));
  const Patterns broken = {kGpt2Words, "("};
  EXPECT_EQ(MakeSplitter(broken).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SafeCutTest, IsTheLastPlaceThatIsSure) {
  for (const Pair& pair : Pairs()) {
    EXPECT_EQ(pair.known->SafeCut(""), 0) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("a"), 0) << pair.name;
    EXPECT_EQ(pair.known->SafeCut(" a"), 0) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("one two thr"), 7) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("one\ntwo\n\n"), 7) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("one.\ntwo"), 3) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("it's"), 0) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("漢字。漢字"), 6) << pair.name;
    EXPECT_EQ(pair.known->SafeCut("漢字。漢字\xE3\x80"), 6) << pair.name;
  }
}

// The words of both parts are those of the whole, whatever follows.
TEST(SafeCutTest, LeavesTheWordsAsTheyAre) {
  Patterns pieces = Pieces();
  for (const char* invalid : {"\x80", "\xC3", "\xE4\xB8", "\xFF"}) pieces.push_back(invalid);
  int64_t num_cuts = 0;
  for (const Pair& pair : Pairs()) {
    for (int64_t i = 0; i < 15000; ++i) {
      const std::string text = RandomText(pieces, 3, i);
      const size_t cut = pair.known->SafeCut(text);
      if (cut == 0) continue;
      ++num_cuts;
      const std::string whole = text + RandomText(pieces, 4, i);
      std::vector<uint32_t> parts = Ends(*pair.known, whole.substr(0, cut));
      for (const uint32_t end : Ends(*pair.known, whole.substr(cut))) parts.push_back(cut + end);
      ASSERT_EQ(Ends(*pair.known, whole), parts)
          << pair.name << ::testing::PrintToString(whole) << " cut at " << cut;
    }
  }
  EXPECT_GT(num_cuts, 50000);
}

}  // namespace
}  // namespace strake
