#include "data/tokenizer/added_token_matcher.h"

#include <string>
#include <tuple>
#include <vector>

#include "data/tokenizer/random_spec.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Found = std::vector<std::tuple<size_t, size_t, int32_t>>;

Found MatchesIn(const AddedTokenMatcher& matcher, const std::string& text) {
  Found found;
  AddedTokenMatcher::Cursor cursor;
  AddedTokenMatcher::Match match;
  while (matcher.Next(text, &cursor, &match)) found.emplace_back(match.begin, match.end, match.id);
  return found;
}

TEST(AddedTokenMatcherTest, FindsNothingWithoutTokens) {
  EXPECT_EQ(MatchesIn(AddedTokenMatcher(), "text"), Found());
  EXPECT_EQ(MatchesIn(AddedTokenMatcher({{.id = 1, .text = ""}}), "text"), Found());
}

TEST(AddedTokenMatcherTest, TakesTheLeftmostAndOfTheseTheLongest) {
  const AddedTokenMatcher matcher({{.id = 1, .text = "ab"},
                                   {.id = 2, .text = "abcd"},
                                   {.id = 3, .text = "bc"},
                                   {.id = 4, .text = "<x>"}});
  EXPECT_EQ(MatchesIn(matcher, "abc"), (Found{{0, 2, 1}}));
  EXPECT_EQ(MatchesIn(matcher, "abcdbc"), (Found{{0, 4, 2}, {4, 6, 3}}));
  EXPECT_EQ(MatchesIn(matcher, "-abcx<x><x"), (Found{{1, 3, 1}, {5, 8, 4}}));
}

// The expectations of the next three are what Hugging Face's tokenizers 0.23 gives.
TEST(AddedTokenMatcherTest, ARefusedMatchHidesOthersWithinIt) {
  const AddedTokenMatcher matcher(
      {{.id = 1, .text = "ab", .single_word = true}, {.id = 2, .text = "b c"}});
  EXPECT_EQ(MatchesIn(matcher, "xab b c"), (Found{{4, 7, 2}}));
  EXPECT_EQ(MatchesIn(matcher,
                      "ab, ab_ \xC3\xA9"
                      "ab ab1 (ab)"),
            (Found{{0, 2, 1}, {18, 20, 1}}));
}

TEST(AddedTokenMatcherTest, TakesBlanksAlong) {
  const AddedTokenMatcher matcher(
      {{.id = 5, .text = "  "}, {.id = 6, .text = "<m>", .lstrip = true, .rstrip = true}});
  EXPECT_EQ(MatchesIn(matcher, "a  <m>  <m> b"),
            (Found{{1, 3, 5}, {3, 8, 6}, {6, 8, 5}, {8, 12, 6}}));
  EXPECT_EQ(MatchesIn(matcher, " <m>"), (Found{{0, 4, 6}}));
}

TEST(AddedTokenMatcherTest, BlanksAreUnicodes) {
  const AddedTokenMatcher matcher({{.id = 6, .text = "<m>", .lstrip = true, .rstrip = true}});
  EXPECT_EQ(MatchesIn(matcher, "a\xE3\x80\x80\t<m>\xC2\xA0\nb"), (Found{{1, 11, 6}}));
}

// Where MayCut() allows it, matches of the whole are those of the parts, whatever follows.
TEST(AddedTokenMatcherTest, MayCutHoldsForEveryContinuation) {
  Random random(5);
  const std::vector<std::string> characters = {"a", "b", " ", "<", ">", "\n"};
  int num_cuts = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<AddedToken> tokens;
    for (int32_t id = 0; id < 4; ++id) {
      const bool plain = round % 2 == 0;
      const std::string text = RandomText(characters, 1 + Below(3, &random), &random);
      tokens.push_back({.id = id,
                        .text = text,
                        .lstrip = !plain && Below(3, &random) == 0,
                        .rstrip = !plain && Below(3, &random) == 0,
                        .single_word = !plain && Below(3, &random) == 0});
    }
    const AddedTokenMatcher matcher(tokens);
    const std::string text = RandomText(characters, 12, &random);
    for (size_t at = 1; at < text.size(); ++at) {
      if (!matcher.MayCut(text, at)) continue;
      ++num_cuts;
      for (int i = 0; i < 4; ++i) {
        const std::string whole = text + RandomText(characters, i, &random);
        Found parts = MatchesIn(matcher, whole.substr(0, at));
        for (auto [begin, end, id] : MatchesIn(matcher, whole.substr(at))) {
          parts.emplace_back(begin + at, end + at, id);
        }
        ASSERT_EQ(MatchesIn(matcher, whole), parts) << "'" << whole << "' at " << at;
      }
    }
  }
  EXPECT_GT(num_cuts, 500);
}

}  // namespace
}  // namespace strake
