#include "data/tokenizer/word_cache.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

ShortWord Key(const std::string& word) { return ShortWord::Of(word.data(), word.size(), 0); }

TEST(WordCacheTest, AShortWordDoesNotDependOnWhatFollows) {
  for (size_t size = 1; size <= ShortWord::kMaxBytes; ++size) {
    const std::string text(size, 'x');
    const std::string followed = text + std::string(16, '\xFF');
    const ShortWord a = ShortWord::Of(text.data(), size, size);
    const ShortWord b = ShortWord::Of(followed.data(), size, followed.size());
    EXPECT_EQ(a.low, b.low) << size;
    EXPECT_EQ(a.high, b.high) << size;
  }
}

TEST(WordCacheTest, WordsOfZerosDifferByLength) {
  const std::string zeros(15, '\0');
  for (size_t size = 1; size < 15; ++size) {
    EXPECT_NE(Key(zeros.substr(0, size)).high, Key(zeros.substr(0, size + 1)).high);
  }
}

TEST(WordCacheTest, FindsWhatWasInserted) {
  WordCache cache;
  cache.BeginUse(1);
  EXPECT_EQ(cache.Find(Key("word")), nullptr);
  cache.Insert(Key("word"), {7, 8});
  const auto* const entry = cache.Find(Key("word"));
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->count, 2);
  EXPECT_EQ(entry->tokens[0], 7);
  EXPECT_EQ(entry->tokens[1], 8);
  EXPECT_EQ(cache.Find(Key("words")), nullptr);
}

TEST(WordCacheTest, NewWordsTakeThePlaceOfOldOnes) {
  WordCache cache(/*log2_entries=*/4);
  cache.BeginUse(1);
  int num_found = 0;
  for (int i = 0; i < 1000; ++i) {
    cache.Insert(Key(std::to_string(i)), {i});
    for (int j = 0; j <= i; ++j) {
      const auto* const entry = cache.Find(Key(std::to_string(j)));
      if (entry == nullptr) continue;
      ASSERT_EQ(entry->tokens[0], j);
      num_found += i == 999;
    }
    ASSERT_NE(cache.Find(Key(std::to_string(i))), nullptr);
  }
  EXPECT_GE(num_found, 8);
  EXPECT_LE(num_found, 16);
}

TEST(WordCacheTest, KeepsLongWordsUntilItIsFull) {
  WordCache cache(/*log2_entries=*/8);
  cache.BeginUse(1);
  const auto word_of = [](int i) { return std::string(20, 'x') + std::to_string(i); };
  int num_found = 0;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(cache.FindLong(word_of(i)).empty());
    cache.InsertLong(word_of(i), std::vector<int32_t>(i % 9 + 1, i));
    const auto tokens = cache.FindLong(word_of(i));
    ASSERT_EQ(std::vector<int32_t>(tokens.begin(), tokens.end()),
              std::vector<int32_t>(i % 9 + 1, i));
  }
  for (int i = 0; i < 1000; ++i) num_found += !cache.FindLong(word_of(i)).empty();
  EXPECT_GE(num_found, 1);
  EXPECT_LE(num_found, 32);
}

TEST(WordCacheTest, KeepsWordsWithoutTokens) {
  WordCache cache;
  cache.BeginUse(1);
  cache.Insert(Key("word"), {});
  ASSERT_NE(cache.Find(Key("word")), nullptr);
  EXPECT_EQ(cache.Find(Key("word"))->count, 0);
  EXPECT_EQ(cache.FindLong("a longer word than that").data(), nullptr);
  cache.InsertLong("a longer word than that", {});
  EXPECT_NE(cache.FindLong("a longer word than that").data(), nullptr);
  EXPECT_TRUE(cache.FindLong("a longer word than that").empty());
}

TEST(WordCacheTest, ForgetsAnotherTokenizersWords) {
  WordCache cache;
  cache.BeginUse(1);
  cache.Insert(Key("word"), {7});
  cache.InsertLong("a longer word than that", {8});
  cache.BeginUse(1);
  EXPECT_NE(cache.Find(Key("word")), nullptr);
  EXPECT_FALSE(cache.FindLong("a longer word than that").empty());
  cache.BeginUse(2);
  EXPECT_EQ(cache.Find(Key("word")), nullptr);
  EXPECT_TRUE(cache.FindLong("a longer word than that").empty());
}

}  // namespace
}  // namespace strake
