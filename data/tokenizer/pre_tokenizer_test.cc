// Expectations that are not evident are what Hugging Face's tokenizers 0.23 gives.
#include "data/tokenizer/pre_tokenizer.h"

#include <string>
#include <vector>

#include "data/tokenizer/words/known_patterns.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using Behavior = PreTokenizer::Behavior;
using Kind = PreTokenizer::Kind;
using Prepend = PreTokenizer::Prepend;
using Words = std::vector<std::string>;

Words WordsOf(const std::vector<PreTokenizer>& steps, const std::string& text,
              bool begins_text = true) {
  const auto chain = PreTokenizerChain::Create(steps);
  EXPECT_TRUE(chain.ok()) << chain.status();
  TextPieces pieces;
  chain->Apply(text, begins_text, &pieces);
  Words words;
  for (const auto [begin, end] : pieces.ranges) {
    words.emplace_back(pieces.text.substr(begin, end - begin));
  }
  return words;
}

PreTokenizer Dashes(Behavior behavior, bool invert) {
  return {.kind = Kind::kSplit,
          .pattern = "-",
          .literal = true,
          .invert = invert,
          .behavior = behavior};
}

TEST(PreTokenizerTest, SplitsWithEveryBehavior) {
  const std::string text = "a--b-c--";
  const auto words = [&](Behavior behavior, bool invert) {
    return WordsOf({Dashes(behavior, invert)}, text);
  };
  const Words isolated = {"a", "-", "-", "b", "-", "c", "-", "-"};
  EXPECT_EQ(words(Behavior::kIsolated, false), isolated);
  EXPECT_EQ(words(Behavior::kIsolated, true), isolated);
  EXPECT_EQ(words(Behavior::kRemoved, false), (Words{"a", "b", "c"}));
  EXPECT_EQ(words(Behavior::kRemoved, true), (Words{"-", "-", "-", "-", "-"}));
  const Words with_previous = {"a-", "-", "b-", "c-", "-"};
  EXPECT_EQ(words(Behavior::kMergedWithPrevious, false), with_previous);
  const Words with_next = {"a", "-", "-b", "-c", "-", "-"};
  EXPECT_EQ(words(Behavior::kMergedWithPrevious, true), with_next);
  EXPECT_EQ(words(Behavior::kMergedWithNext, false), with_next);
  EXPECT_EQ(words(Behavior::kMergedWithNext, true), with_previous);
  const Words contiguous = {"a", "--", "b", "-", "c", "--"};
  EXPECT_EQ(words(Behavior::kContiguous, false), contiguous);
  EXPECT_EQ(words(Behavior::kContiguous, true), contiguous);
}

TEST(PreTokenizerTest, SplitsATextThatBeginsWithAMatch) {
  const auto words = [&](Behavior behavior) { return WordsOf({Dashes(behavior, false)}, "--a"); };
  EXPECT_EQ(words(Behavior::kMergedWithPrevious), (Words{"-", "-", "a"}));
  EXPECT_EQ(words(Behavior::kMergedWithNext), (Words{"-", "-a"}));
  EXPECT_EQ(words(Behavior::kContiguous), (Words{"--", "a"}));
}

TEST(PreTokenizerTest, QuotesLiteralText) {
  for (const std::string literal : {".", "\\", "[a", "a b", "\xC3\xA9", "(?i)", "#"}) {
    EXPECT_EQ(
        WordsOf({{.kind = Kind::kSplit, .pattern = literal, .literal = true}}, "x" + literal + "y"),
        (Words{"x", literal, "y"}));
  }
}

TEST(PreTokenizerTest, SplitsAtExpressionsOneAfterTheOther) {
  const PreTokenizer pairs = {.kind = Kind::kSplit, .pattern = "[0-9]{2}"};
  EXPECT_EQ(WordsOf({pairs}, "12345a6"), (Words{"12", "34", "5a6"}));
  const PreTokenizer letter = {
      .kind = Kind::kSplit, .pattern = "[a-z]+", .behavior = Behavior::kRemoved};
  EXPECT_EQ(WordsOf({pairs, letter}, "12345a6"), (Words{"12", "34", "5", "6"}));
  EXPECT_EQ(WordsOf({letter, pairs}, "12345a6"), (Words{"12", "34", "5", "6"}));
}

TEST(PreTokenizerTest, Digits) {
  const std::string text =
      "ab123\xC2\xBD"
      "c";
  EXPECT_EQ(WordsOf({{.kind = Kind::kDigits, .individual = true}}, text),
            (Words{"ab", "1", "2", "3", "\xC2\xBD", "c"}));
  EXPECT_EQ(WordsOf({{.kind = Kind::kDigits}}, text), (Words{"ab", "123\xC2\xBD", "c"}));
}

TEST(PreTokenizerTest, Punctuation) {
  const std::string text = "Hi, you!!$+ \u00ABx\u00BB";
  const auto words = [&](Behavior behavior) {
    return WordsOf({{.kind = Kind::kPunctuation, .behavior = behavior}}, text);
  };
  EXPECT_EQ(words(Behavior::kIsolated),
            (Words{"Hi", ",", " you", "!", "!", "$", "+", " ", "\u00AB", "x", "\u00BB"}));
  EXPECT_EQ(words(Behavior::kRemoved), (Words{"Hi", " you", " ", "x"}));
  EXPECT_EQ(words(Behavior::kMergedWithPrevious),
            (Words{"Hi,", " you!", "!", "$", "+", " \u00AB", "x\u00BB"}));
  EXPECT_EQ(words(Behavior::kContiguous),
            (Words{"Hi", ",", " you", "!!$+", " ", "\u00AB", "x", "\u00BB"}));
}

TEST(PreTokenizerTest, Whitespace) {
  EXPECT_EQ(WordsOf({{.kind = Kind::kWhitespace}}, "a_b  c-d, \u00E9\u0301x \u00BD"),
            (Words{"a_b", "c", "-", "d", ",", "\u00E9\u0301x", "\u00BD"}));
}

PreTokenizer Metaspace(Prepend prepend, bool split) {
  return {.kind = Kind::kMetaspace, .pattern = "\u2581", .prepend = prepend, .split = split};
}

TEST(PreTokenizerTest, MetaspacePrependsAndSplits) {
  for (const Prepend prepend : {Prepend::kFirst, Prepend::kAlways}) {
    EXPECT_EQ(WordsOf({Metaspace(prepend, true)}, "a  b "),
              (Words{"\u2581a", "\u2581", "\u2581b", "\u2581"}));
    EXPECT_EQ(WordsOf({Metaspace(prepend, false)}, "a  b "), (Words{"\u2581a\u2581\u2581b\u2581"}));
    EXPECT_EQ(WordsOf({Metaspace(prepend, true)}, "\u2581a b"), (Words{"\u2581a", "\u2581b"}));
    EXPECT_EQ(WordsOf({Metaspace(prepend, true)}, " a"), (Words{"\u2581a"}));
  }
  EXPECT_EQ(WordsOf({Metaspace(Prepend::kNever, true)}, "a  b "),
            (Words{"a", "\u2581", "\u2581b", "\u2581"}));
}

TEST(PreTokenizerTest, MetaspacePrependsToTheFirstPieceOrToAll) {
  const PreTokenizer digits = {.kind = Kind::kDigits, .individual = true};
  const auto words = [&](Prepend prepend, bool begins_text) {
    return WordsOf({digits, Metaspace(prepend, true)}, "a1 b", begins_text);
  };
  EXPECT_EQ(words(Prepend::kFirst, true), (Words{"\u2581a", "1", "\u2581b"}));
  EXPECT_EQ(words(Prepend::kFirst, false), (Words{"a", "1", "\u2581b"}));
  EXPECT_EQ(words(Prepend::kAlways, true), (Words{"\u2581a", "\u25811", "\u2581b"}));
  EXPECT_EQ(words(Prepend::kNever, true), (Words{"a", "1", "\u2581b"}));
}

TEST(PreTokenizerTest, ByteLevelCutsAsGpt2AndPrependsABlankToEachPiece) {
  const PreTokenizer gpt2 = {.kind = Kind::kByteLevel, .use_regex = true};
  EXPECT_EQ(WordsOf({gpt2}, "Hi you's  x"), (Words{"Hi", " you", "'s", " ", " x"}));
  PreTokenizer prefixed = gpt2;
  prefixed.add_prefix_space = true;
  EXPECT_EQ(WordsOf({prefixed}, "Hi you's  x"), (Words{" Hi", " you", "'s", " ", " x"}));
  const PreTokenizer digits = {.kind = Kind::kDigits, .individual = true};
  EXPECT_EQ(WordsOf({digits, prefixed}, "Hi1 2"), (Words{" Hi", " 1", " ", " 2"}));
  prefixed.use_regex = false;
  EXPECT_EQ(WordsOf({digits, prefixed}, "Hi1 2"), (Words{" Hi", " 1", " ", " 2"}));
}

TEST(PreTokenizerTest, RecognizesASplitterAlone) {
  const auto is_splitter = [](const std::vector<PreTokenizer>& steps) {
    return PreTokenizerChain::Create(steps)->is_splitter();
  };
  const PreTokenizer gpt2 = {.kind = Kind::kByteLevel, .use_regex = true};
  const PreTokenizer bytes = {.kind = Kind::kByteLevel};
  PreTokenizer pattern = {.kind = Kind::kSplit, .pattern = kGpt2Words};
  EXPECT_TRUE(is_splitter({gpt2}));
  EXPECT_TRUE(is_splitter({pattern, bytes}));
  EXPECT_TRUE(is_splitter({{.kind = Kind::kDigits, .individual = true}, gpt2}));
  // Matches cover every text, so what lies between them to be removed is nothing.
  pattern.behavior = Behavior::kRemoved;
  pattern.invert = true;
  EXPECT_TRUE(is_splitter({pattern, bytes}));
  pattern.invert = false;
  EXPECT_FALSE(is_splitter({pattern, bytes}));
  EXPECT_FALSE(is_splitter({Metaspace(Prepend::kFirst, true)}));
}

TEST(PreTokenizerTest, RefusesWhatItCannotDo) {
  EXPECT_FALSE(PreTokenizerChain::Create({{.kind = Kind::kSplit, .pattern = "(a"}}).ok());
  EXPECT_FALSE(
      PreTokenizerChain::Create({{.kind = Kind::kByteLevel}, {.kind = Kind::kDigits}}).ok());
}

}  // namespace
}  // namespace strake
