#include "data/tokenizer/training/word_counts.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// Words end with a blank; "!" is an error.
class BlankSplitter : public Splitter {
 public:
  explicit BlankSplitter(bool knows_cuts) : knows_cuts_(knows_cuts) {}

  absl::Status Split(absl::string_view text, std::vector<uint32_t>* ends) const override {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '!') return absl::ResourceExhaustedError("a mark");
      if (text[i] == ' ' || i + 1 == text.size()) ends->push_back(i + 1);
    }
    return absl::OkStatus();
  }
  size_t SafeCut(absl::string_view text) const override {
    return knows_cuts_ ? text.rfind(' ') + 1 : 0;
  }
  bool covers_all() const override { return true; }

 private:
  const bool knows_cuts_;
};

absl::StatusOr<std::map<std::string, int64_t>> Count(const Splitter& splitter, int num_threads,
                                                     const std::vector<TextPart>& parts) {
  auto next = parts.begin();
  const auto next_part = [&](TextPart* part) -> absl::StatusOr<bool> {
    if (next == parts.end()) return false;
    if (next->text == "?") return absl::DataLossError("a broken part");
    *part = *next++;
    return true;
  };
  const auto counts = CountWords(splitter, num_threads, next_part);
  if (!counts.ok()) return counts.status();
  std::map<std::string, int64_t> map;
  for (const WordCount& word : *counts) {
    EXPECT_TRUE(map.emplace(word.word, word.count).second) << word.word;
  }
  return map;
}

TEST(WordCountsTest, PartsOfADocumentAreOneText) {
  const BlankSplitter splitter(true);
  const auto counts =
      Count(splitter, 2, {{"a b", false}, {"c a ", false}, {"d", true}, {"", true}, {"d", false}});
  ASSERT_TRUE(counts.ok());
  EXPECT_THAT(*counts, ElementsAre(Pair("a ", 2), Pair("bc ", 1), Pair("d", 2)));
  EXPECT_TRUE(Count(splitter, 2, {})->empty());
  EXPECT_TRUE(Count(splitter, 2, {{"", true}})->empty());
}

TEST(WordCountsTest, LongTextsAreCountedAlikeByAnyThreadsAndParts) {
  std::mt19937 random(1);
  std::string text;
  std::map<std::string, int64_t> expected;
  while (text.size() < (5 << 20)) {
    const std::string word = absl::StrCat(random() % 5000, " ");
    text += word;
    ++expected[word];
  }
  for (const bool knows_cuts : {true, false}) {
    const BlankSplitter splitter(knows_cuts);
    for (const int num_threads : {1, 2, 5}) {
      std::vector<TextPart> parts;
      const size_t part_bytes = num_threads == 2 ? text.size() : 1000 + random() % 300000;
      for (size_t begin = 0; begin < text.size(); begin += part_bytes) {
        parts.push_back({absl::string_view(text).substr(begin, part_bytes), false});
      }
      const auto counts = Count(splitter, num_threads, parts);
      ASSERT_TRUE(counts.ok());
      EXPECT_EQ(*counts, expected) << num_threads;
    }
  }
}

TEST(WordCountsTest, ErrorsOfTextAndSplitterArePassedOn) {
  const BlankSplitter splitter(true);
  EXPECT_EQ(Count(splitter, 2, {{"a", true}, {"?", true}}).status().message(), "a broken part");
  EXPECT_EQ(Count(splitter, 2, {{"a! b", true}}).status().message(), "a mark");
}

}  // namespace
}  // namespace strake
