#include "data/tokenizer/training/bpe_trainer.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "data/tokenizer/formats/tokenizer_json_writer.h"
#include "data/tokenizer/training/bpe_trainer_reference.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::tuple<int32_t, int32_t, int32_t, int64_t>> Tuples(const TokenizerSpec& spec) {
  std::vector<std::tuple<int32_t, int32_t, int32_t, int64_t>> merges;
  for (const Merge& m : spec.merges) merges.emplace_back(m.left, m.right, m.result, m.rank);
  return merges;
}

void ExpectEqual(const TokenizerSpec& a, const TokenizerSpec& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(Tuples(a), Tuples(b));
}

// The tokens that merges made, in order.
std::vector<std::string> NewTokens(const TokenizerSpec& spec, int num_special = 0) {
  return {spec.tokens.begin() + 256 + num_special, spec.tokens.end()};
}

std::vector<WordCount> RandomWords(std::mt19937* random, int alphabet, int num_words, int length,
                                   int max_count) {
  std::vector<WordCount> words(num_words);
  for (WordCount& word : words) {
    word.word.resize((*random)() % (length + 1));
    for (char& c : word.word) c = static_cast<char>('a' + (*random)() % alphabet);
    word.count = 1 + (*random)() % max_count;
  }
  return words;
}

TEST(BpeTrainerTest, MergesTheMostFrequentPairFirst) {
  const auto spec =
      TrainBpe({{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}}, {.vocab_size = 256 + 6});
  ASSERT_TRUE(spec.ok());
  // "es" and "st" occur 9 times, "we" 8 times: "e" is before "s", and "es" before "t".
  EXPECT_THAT(NewTokens(*spec), ElementsAre("es", "est", "lo", "low", "ew", "new"));
}

TEST(BpeTrainerTest, EqualsTheDefinition) {
  std::mt19937 random(1);
  int64_t num_merges = 0;
  for (int i = 0; i < 300; ++i) {
    const int alphabet = 1 + i % 5;
    const auto words = RandomWords(&random, alphabet, 1 + i % 40, 1 + i % 23, 1 + i % 9);
    const BpeTrainerOptions options = {.vocab_size = 259 + 2 * (i % 30),
                                       .min_frequency = 1 + i % 3,
                                       .special_tokens = {"<end>", "ab", "aab"}};
    const auto spec = TrainBpe(words, options);
    ASSERT_TRUE(spec.ok()) << spec.status();
    ExpectEqual(*spec, TrainBpeReference(words, options));
    const std::vector<std::string> made = NewTokens(*spec, 3);
    EXPECT_EQ(std::set<std::string>(made.begin(), made.end()).size(), made.size());
    num_merges += made.size();
  }
  EXPECT_GT(num_merges, 1000);
}

TEST(BpeTrainerTest, LongWordsEqualTheDefinition) {
  std::mt19937 random(2);
  auto words = RandomWords(&random, 3, 5, 3000, 4);
  words.push_back({std::string(5000, 'a'), 2});
  words.push_back({std::string(257, 'b'), 3});
  const BpeTrainerOptions options = {.vocab_size = 256 + 60};
  const auto spec = TrainBpe(words, options);
  ASSERT_TRUE(spec.ok());
  ExpectEqual(*spec, TrainBpeReference(words, options));
}

// testdata/make_bpe_trainer_golden.py made it with Hugging Face's tokenizers.
TEST(BpeTrainerTest, EqualsTokenizers) {
  const auto text = ReadFile("data/tokenizer/training/testdata/bpe_trainer.json");
  ASSERT_TRUE(text.ok()) << text.status();
  const nlohmann::json golden = ParseJson(*text, "golden").value();
  std::vector<WordCount> words;
  for (const auto& word : golden["words"]) words.push_back({word[0], word[1]});
  const auto spec = TrainBpe(
      words, {.vocab_size = golden["vocab_size"], .special_tokens = golden["special_tokens"]});
  ASSERT_TRUE(spec.ok()) << spec.status();
  const nlohmann::json model = ParseJson(*TokenizerJson(*spec), "ours").value()["model"];
  EXPECT_EQ(model["merges"], golden["merges"]);
  ASSERT_EQ(model["vocab"].size(), golden["vocab"].size());
  for (size_t id = 0; id < golden["vocab"].size(); ++id) {
    EXPECT_EQ(model["vocab"][std::string(golden["vocab"][id])], id);
  }
}

TEST(BpeTrainerTest, TheOrderOfWordsDoesNotMatter) {
  std::mt19937 random(3);
  auto words = RandomWords(&random, 4, 200, 12, 50);
  const BpeTrainerOptions options = {.vocab_size = 256 + 100};
  const auto spec = TrainBpe(words, options);
  std::shuffle(words.begin(), words.end(), random);
  const auto shuffled = TrainBpe(words, options);
  ASSERT_TRUE(spec.ok() && shuffled.ok());
  EXPECT_EQ(spec->merges.size(), Tuples(*spec).size());
  ExpectEqual(*spec, *shuffled);
}

TEST(BpeTrainerTest, SpecialTokensComeFirst) {
  const auto spec =
      TrainBpe({{"aa", 1}}, {.vocab_size = 300, .special_tokens = {"<a b>", "\xE2\x96\x81x"}});
  ASSERT_TRUE(spec.ok());
  ASSERT_EQ(spec->tokens.size(), 2 + 256 + 1);
  EXPECT_EQ(spec->tokens[0], "<a b>");
  EXPECT_EQ(spec->tokens[2], "!");
  EXPECT_EQ(spec->tokens.back(), "aa");
  ASSERT_EQ(spec->added.size(), 2);
  EXPECT_EQ(spec->added[1].text, spec->tokens[1]);
  EXPECT_EQ(spec->added[1].id, 1);
  EXPECT_TRUE(spec->added[1].special);
}

TEST(BpeTrainerTest, StopsWhereNothingIsLeftToMerge) {
  EXPECT_EQ(TrainBpe({}, {.vocab_size = 300})->tokens.size(), 256);
  EXPECT_EQ(TrainBpe({{"", 7}, {"a", 7}}, {.vocab_size = 300})->tokens.size(), 256);
  EXPECT_THAT(NewTokens(*TrainBpe({{"ab", 2}, {"cd", 1}}, {.vocab_size = 300, .min_frequency = 2})),
              ElementsAre("ab"));
}

TEST(BpeTrainerTest, ReportsProgressAndStops) {
  std::vector<int64_t> sizes;
  BpeTrainerOptions options = {.vocab_size = 300};
  options.on_progress = [&](int64_t num_tokens) { sizes.push_back(num_tokens); };
  ASSERT_TRUE(TrainBpe({{"abc", 1}}, options).ok());
  EXPECT_THAT(sizes, ElementsAre(257, 258));
  options.stop_requested = [&] { return sizes.size() == 3; };
  EXPECT_TRUE(absl::IsCancelled(TrainBpe({{"abc", 1}}, options).status()));
  EXPECT_EQ(sizes.size(), 3);
}

TEST(BpeTrainerTest, RefusesOptionsThatContradict) {
  const auto error = [](const BpeTrainerOptions& options) {
    return std::string(TrainBpe({{"ab", 1}}, options).status().message());
  };
  EXPECT_THAT(error({.vocab_size = 257, .special_tokens = {"<a>", "<b>"}}),
              HasSubstr("257 tokens cannot hold the 256 bytes and 2 special tokens"));
  EXPECT_THAT(error({.vocab_size = int64_t{1} << 32}), HasSubstr("4294967296"));
  EXPECT_THAT(error({.vocab_size = 300, .special_tokens = {""}}), HasSubstr("is empty"));
  EXPECT_THAT(error({.vocab_size = 300, .special_tokens = {"a"}}), HasSubstr("\"a\" is a byte"));
  EXPECT_THAT(error({.vocab_size = 300, .special_tokens = {"<a>", "<a>"}}), HasSubstr("twice"));
}

}  // namespace
}  // namespace strake
