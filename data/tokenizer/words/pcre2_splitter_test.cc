#include "data/tokenizer/words/pcre2_splitter.h"

#include <thread>

#include "data/tokenizer/words/known_patterns.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const auto expression = RegularExpression::Compile(pattern);
  EXPECT_TRUE(expression.ok()) << expression.status();
  std::vector<RegularExpression::Match> matches;
  const absl::Status status = (*expression)->FindMatches(text, &matches);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> found;
  for (const auto& match : matches) {
    found.push_back(text.substr(match.begin, match.end - match.begin));
  }
  return found;
}

std::vector<std::string> Words(const std::vector<std::string>& patterns, const std::string& text) {
  const auto splitter = MakePcre2Splitter(patterns);
  EXPECT_TRUE(splitter.ok()) << splitter.status();
  std::vector<uint32_t> ends;
  const absl::Status status = (*splitter)->Split(text, &ends);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> words;
  for (uint32_t begin = 0; const uint32_t end : ends) {
    words.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

TEST(RegularExpressionTest, FindsMatchesInOrder) {
  EXPECT_THAT(Matches("[a-z]+", "ab1cd22ef"), ElementsAre("ab", "cd", "ef"));
  EXPECT_THAT(Matches("[a-z]+", "123"), IsEmpty());
  EXPECT_THAT(Matches("[a-z]+", ""), IsEmpty());
}

TEST(RegularExpressionTest, KnowsUnicode) {
  EXPECT_THAT(Matches(R"(\p{Lu})", "aÄbΩ"), ElementsAre("Ä", "Ω"));
  EXPECT_THAT(Matches("(?i:s)", "sSſx"), ElementsAre("s", "S", "ſ"));
  EXPECT_THAT(Matches(R"([\u4e00-\u9fa5]+)", "a漢字b"), ElementsAre("漢字"));
  EXPECT_THAT(Matches(R"(.)", "a😀"), ElementsAre("a", "😀"));
}

// PCRE2 alone would count U+180E, which lost the property in Unicode 6.3.
TEST(RegularExpressionTest, HasUnicodesWhiteSpace) {
  EXPECT_THAT(Matches(R"(\s)", "a\u180E\u0085\u3000\v"), ElementsAre("\u0085", "\u3000", "\v"));
  EXPECT_THAT(Matches(R"([^\s]+)", "a\u180E b"), ElementsAre("a\u180E", "b"));
  EXPECT_THAT(Matches(R"(\S+)", "a\u180E b"), ElementsAre("a\u180E", "b"));
  EXPECT_THAT(Matches(R"([\sx]+)", "ax b"), ElementsAre("x "));
}

TEST(RegularExpressionTest, EndsTextsAndNotLinesAtADollar) {
  EXPECT_THAT(Matches("a$", "a\na\n"), IsEmpty());
  EXPECT_THAT(Matches("a$", "a\na"), ElementsAre("a"));
}

TEST(RegularExpressionTest, CountsEmptyMatches) {
  EXPECT_THAT(Matches("(?=b)", "abab"), ElementsAre("", ""));
  // There is none where the one before ended.
  EXPECT_THAT(Matches("a*", "baaac"), ElementsAre("", "aaa", ""));
  EXPECT_THAT(Matches("x*", "é"), ElementsAre("", ""));
  EXPECT_THAT(Matches("x*", "\xFF"), IsEmpty());
}

TEST(RegularExpressionTest, MatchesNothingAcrossInvalidBytes) {
  EXPECT_THAT(Matches(".+",
                      "ab\xFF\xFE"
                      "c\xE4\xB8"),
              ElementsAre("ab", "c"));
  EXPECT_THAT(Matches(R"(\s+(?!\S))", "  \xFFx  y"), ElementsAre("  ", " "));
}

TEST(RegularExpressionTest, KeepsBracketsThatAreCharacters) {
  EXPECT_THAT(Matches(R"([\[\]]+)", "a[]b"), ElementsAre("[]"));
  EXPECT_THAT(Matches("[]a]+", "b]a"), ElementsAre("]a"));
  EXPECT_THAT(Matches("[^]a]+", "b]a"), ElementsAre("b"));
  EXPECT_THAT(Matches("[[:digit:]]+", "a12b"), ElementsAre("12"));
  EXPECT_THAT(Matches("[a&b]+", "x&y"), ElementsAre("&"));
}

void ExpectRefused(const std::string& pattern, const std::string& reason) {
  const absl::Status status = RegularExpression::Compile(pattern).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << pattern;
  EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
}

TEST(RegularExpressionTest, RefusesWhatIsNone) {
  ExpectRefused("(a", "missing closing parenthesis at offset 2");
  ExpectRefused("a\xFF", "UTF-8 error");
  ExpectRefused(R"(\p{Nonsense})", "unknown property");
  ExpectRefused(R"(a\C)", "\\C is disabled");
  ExpectRefused(R"(\)", "at end of pattern");
  ExpectRefused("[a", "missing terminating ]");
  ExpectRefused("[a[b]]", "a class within a class");
  ExpectRefused(R"([\w&&[^\d]])", "an intersection of classes");
  ExpectRefused(std::string(100000, 'a'), "100000 bytes");
}

TEST(RegularExpressionTest, GivesUpWhereAMatchTakesTooLong) {
  const auto expression = RegularExpression::Compile("(?:x+x+)+y");
  ASSERT_TRUE(expression.ok());
  std::vector<RegularExpression::Match> matches;
  const absl::Status status = (*expression)->FindMatches(std::string(64, 'x') + "zy", &matches);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("(?:x+x+)+y"));
}

TEST(Pcre2SplitterTest, LeavesTheEndsAsTheyWereAfterAnError) {
  const auto splitter = MakePcre2Splitter({"(?:x+x+)+y"});
  ASSERT_TRUE(splitter.ok());
  std::vector<uint32_t> ends = {7};
  EXPECT_FALSE((*splitter)->Split("ab\xFF" + std::string(64, 'x') + "zy", &ends).ok());
  EXPECT_THAT(ends, ElementsAre(7));
}

// A run that a pattern goes back over step by step is no trap.
TEST(Pcre2SplitterTest, SplitsLongRuns) {
  for (const char c : {'a', 'A', '1', ' ', '\n', '!', '\''}) {
    const std::string text(1 << 20, c);
    const std::vector<std::string> patterns = {kGpt2Words, R"(\s*[\r\n]+|\s+(?!\S)|(?:a|b)+)"};
    for (const std::string& pattern : patterns) {
      size_t num_bytes = 0;
      for (const std::string& word : Words({pattern}, text)) num_bytes += word.size();
      EXPECT_EQ(num_bytes, text.size());
    }
  }
}

TEST(Pcre2SplitterTest, ServesManyThreads) {
  const auto splitter = MakePcre2Splitter({R"(\p{N}{1,3})", kGpt2Words});
  ASSERT_TRUE(splitter.ok());
  std::vector<std::vector<uint32_t>> ends(4);
  std::vector<std::thread> threads;
  for (auto& of_thread : ends) {
    threads.emplace_back([&splitter, &of_thread] {
      for (int i = 0; i < 1000; ++i) {
        EXPECT_TRUE((*splitter)->Split("some 12345 words\n\n, each time", &of_thread).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ends[0].size() % 1000, 0);
  EXPECT_GT(ends[0].size(), 1000);
  for (const auto& of_thread : ends) EXPECT_EQ(of_thread, ends[0]);
}

TEST(Pcre2SplitterTest, CutsBeforeAndAfterMatches) {
  EXPECT_THAT(Words({"[0-9]"}, "ab12c"), ElementsAre("ab", "1", "2", "c"));
  EXPECT_THAT(Words({"(?=[A-Z])"}, "fooBarBaz"), ElementsAre("foo", "Bar", "Baz"));
  EXPECT_THAT(Words({}, "as it is"), ElementsAre("as it is"));
  EXPECT_THAT(Words({"x"}, ""), IsEmpty());
}

// Each pattern sees a word of the one before as a text: white space before "5" is a text's end.
TEST(Pcre2SplitterTest, SplitsWordsOfTheSplitBefore) {
  EXPECT_THAT(Words({R"(\p{N})", kGpt2Words}, "a  55 b"), ElementsAre("a", "  ", "5", "5", " b"));
  EXPECT_THAT(Words({kGpt2Words}, "a  55 b"), ElementsAre("a", " ", " 55", " b"));
}

TEST(Pcre2SplitterTest, JoinsInvalidBytesToTheWordBefore) {
  EXPECT_THAT(Words({kGpt2Words}, "caf\xC3"), ElementsAre("caf\xC3"));
  EXPECT_THAT(Words({kGpt2Words}, "a caf\xC3(\xFF\xFE b"),
              ElementsAre("a", " caf\xC3", "(\xFF\xFE", " b"));
  EXPECT_THAT(Words({kGpt2Words},
                    "\xFF"
                    "abc"),
              ElementsAre("\xFF", "abc"));
  EXPECT_THAT(Words({kGpt2Words}, "\xFF"), ElementsAre("\xFF"));
}

TEST(Pcre2SplitterTest, JoinsAllBlankWordsBeforeInvalidBytes) {
  const std::string pattern = R"(\n+|[^\n]+)";
  EXPECT_THAT(Words({pattern},
                    "a\n \n\xE4"
                    "b"),
              ElementsAre("a", "\n \n\xE4", "b"));
  EXPECT_THAT(Words({pattern}, "\n \n\xE4"), ElementsAre("\n \n\xE4"));
  // Other white space is none of these.
  EXPECT_THAT(Words({pattern}, "\n\r\n\xE4"), ElementsAre("\n", "\r", "\n\xE4"));
}

TEST(Pcre2SplitterTest, KnowsNoSafeCut) {
  const auto splitter = MakePcre2Splitter({kGpt2Words});
  ASSERT_TRUE(splitter.ok());
  EXPECT_EQ((*splitter)->SafeCut("a b c"), 0);
  EXPECT_FALSE((*splitter)->covers_all());
}

}  // namespace
}  // namespace strake
