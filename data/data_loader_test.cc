#include "data/data_loader.h"

#include <map>
#include <string>
#include <vector>

#include "core/testing/test_tensor.h"
#include "data/permutation.h"
#include "data/token_file.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"
#include "data/train_val_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::SameBits;
using testing::TestTensor;

// Token i of the stream is i, so a sample's contents show its position. There are three files, and
// samples of more than 7 tokens span them.
TokenStream MakeStream(int64_t num_tokens) {
  std::vector<std::string> paths;
  int32_t token = 0;
  for (const int64_t end : {num_tokens / 2, num_tokens / 2 + 7, num_tokens}) {
    std::vector<int32_t> tokens;
    while (token < end) tokens.push_back(token++);
    paths.push_back(::testing::TempDir() + "/part" + std::to_string(paths.size()) + ".bin");
    const TokenEncoding encoding =
        paths.size() == 2 ? TokenEncoding::kUint32 : TokenEncoding::kUint16;
    EXPECT_TRUE(WriteTokenFile(paths.back(), tokens, encoding).ok());
  }
  auto stream = TokenStream::Open(paths, num_tokens);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return std::move(stream).value();
}

DataLoader MakeLoader(const TokenStream& stream, int64_t begin, int64_t end,
                      const DataLoader::Options& options) {
  auto loader = DataLoader::Create(&stream, begin, end, options);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return std::move(loader).value();
}

// The first tokens of samples [first, first + count); checks all other tokens and targets.
std::vector<int32_t> SampleStarts(const DataLoader& loader, int64_t first, int64_t count) {
  const int64_t seq_len = loader.options().seq_len;
  TestTensor tokens(DType::kI32, {count * seq_len}), targets(DType::kI32, {count * seq_len});
  EXPECT_TRUE(loader.Load(first, count, tokens, targets).ok());
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < count * seq_len; ++i) {
    if (i % seq_len == 0) starts.push_back(tokens->data<int32_t>()[i]);
    EXPECT_EQ(tokens->data<int32_t>()[i], starts.back() + i % seq_len);
    EXPECT_EQ(targets->data<int32_t>()[i], starts.back() + i % seq_len + 1);
  }
  return starts;
}

TEST(DataLoaderTest, RangesAreOneSequence) {
  const TokenStream stream = MakeStream(100);
  const TokenRanges ranges({{5, 12}, {12, 15}, {20, 20}, {45, 60}, {90, 100}});
  EXPECT_THAT(ranges.ranges(),
              ElementsAre(TokenRange{5, 15}, TokenRange{45, 60}, TokenRange{90, 100}));
  auto loader = DataLoader::Create(&stream, ranges, {.seq_len = 8, .shuffle = false});
  ASSERT_TRUE(loader.ok()) << loader.status();
  ASSERT_EQ(loader->num_samples(), 4);
  std::vector<int32_t> all;
  for (const TokenRange& range : ranges.ranges()) {
    for (int64_t i = range.begin; i < range.end; ++i) all.push_back(static_cast<int32_t>(i));
  }
  TestTensor tokens(DType::kI32, {8}), targets(DType::kI32, {8});
  for (int64_t sample = 0; sample < 4; ++sample) {
    ASSERT_TRUE(loader->Load(sample, 1, tokens, targets).ok());
    for (int64_t i = 0; i < 8; ++i) {
      EXPECT_EQ(tokens->data<int32_t>()[i], all[sample * 8 + i]);
      EXPECT_EQ(targets->data<int32_t>()[i], all[sample * 8 + i + 1]);
    }
  }
}

TEST(DataLoaderTest, InOrderSampleIsAtItsIndexTimesTheLength) {
  const TokenStream stream = MakeStream(100);
  const DataLoader loader = MakeLoader(stream, 0, 100, {.seq_len = 10, .shuffle = false});
  // The tenth sample would need token 100 as its last target.
  ASSERT_EQ(loader.num_samples(), 9);
  EXPECT_THAT(SampleStarts(loader, 0, 9), ElementsAre(0, 10, 20, 30, 40, 50, 60, 70, 80));
  EXPECT_THAT(SampleStarts(loader, 8, 3), ElementsAre(80, 0, 10));
  EXPECT_EQ(MakeLoader(stream, 0, 91, {.seq_len = 10}).num_samples(), 9);
  EXPECT_EQ(MakeLoader(stream, 0, 90, {.seq_len = 10}).num_samples(), 8);
}

TEST(DataLoaderTest, SamplesLieInsideTheRange) {
  const TokenStream stream = MakeStream(100);
  const DataLoader loader = MakeLoader(stream, 37, 64, {.seq_len = 5, .shuffle = false});
  EXPECT_EQ(loader.num_samples(), 5);
  EXPECT_THAT(SampleStarts(loader, 0, 5), ElementsAre(37, 42, 47, 52, 57));
}

TEST(DataLoaderTest, WhatIsHeldBackIsNeverTrainedOn) {
  const TokenStream stream = MakeStream(1000);
  for (const int64_t seq_len : {1, 7, 9, 99}) {
    const auto split = SplitTrainVal(stream.num_tokens(), std::nullopt, seq_len);
    ASSERT_TRUE(split.ok()) << split.status();
    const DataLoader train = MakeLoader(stream, 0, split->train.num_tokens(), {.seq_len = seq_len});
    for (const int32_t start : SampleStarts(train, 0, train.num_samples())) {
      EXPECT_LT(start + seq_len, 900) << "the last target";
    }
    const DataLoader val =
        MakeLoader(stream, split->train.num_tokens(), stream.num_tokens(), {.seq_len = seq_len});
    for (const int32_t start : SampleStarts(val, 0, val.num_samples())) EXPECT_GE(start, 900);
  }
}

TEST(DataLoaderTest, EveryEpochHoldsEverySampleOnceInAnotherOrder) {
  const TokenStream stream = MakeStream(1000);
  const DataLoader loader = MakeLoader(stream, 0, 1000, {.seq_len = 9, .seed = 3});
  const int64_t n = loader.num_samples();
  ASSERT_EQ(n, 111);
  std::vector<std::vector<int32_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    epochs.push_back(SampleStarts(loader, epoch * n, n));
    const Permutation order(n, 3, epoch);
    std::map<int32_t, int> seen;
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(epochs.back()[i], order(i) * 9);
      ++seen[epochs.back()[i]];
    }
    EXPECT_EQ(seen.size(), n);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  EXPECT_NE(SampleStarts(MakeLoader(stream, 0, 1000, {.seq_len = 9, .seed = 4}), 0, n), epochs[0]);
}

TEST(DataLoaderTest, HowTheSamplesAreAskedForDoesNotMatter) {
  const TokenStream stream = MakeStream(300);
  const DataLoader loader = MakeLoader(stream, 0, 300, {.seq_len = 8, .seed = 1});
  constexpr int64_t kFirst = 20, kCount = 60;  // into the second epoch
  TestTensor tokens(DType::kI32, {kCount * 8}), targets(DType::kI32, {kCount * 8});
  ASSERT_TRUE(loader.Load(kFirst, kCount, tokens, targets).ok());
  for (const int64_t part : {1, 4, 15}) {
    TestTensor part_tokens(DType::kI32, {kCount * 8}), part_targets(DType::kI32, {kCount * 8});
    for (int64_t at = 0; at < kCount; at += part) {
      ASSERT_TRUE(loader
                      .Load(kFirst + at, part, part_tokens->Rows(at * 8, (at + part) * 8),
                            part_targets->Rows(at * 8, (at + part) * 8))
                      .ok());
    }
    EXPECT_TRUE(SameBits(part_tokens, tokens)) << part;
    EXPECT_TRUE(SameBits(part_targets, targets)) << part;
  }
}

TEST(DataLoaderTest, OneTokenSamplesAndNoSamples) {
  const TokenStream stream = MakeStream(20);
  const DataLoader loader = MakeLoader(stream, 0, 20, {.seq_len = 1, .shuffle = false});
  EXPECT_EQ(loader.num_samples(), 19);
  EXPECT_THAT(SampleStarts(loader, 17, 3), ElementsAre(17, 18, 0));
  EXPECT_TRUE(SampleStarts(loader, 5, 0).empty());
}

TEST(DataLoaderTest, TooShortPrintsBothNumbers) {
  const TokenStream stream = MakeStream(100);
  EXPECT_EQ(MakeLoader(stream, 91, 100, {.seq_len = 8}).num_samples(), 1);
  EXPECT_THAT(DataLoader::Create(&stream, 91, 100, {.seq_len = 9}).status().message(),
              AllOf(HasSubstr("has 9 tokens"), HasSubstr("takes 10")));
  EXPECT_FALSE(DataLoader::Create(&stream, 50, 50, {.seq_len = 1}).ok());
  EXPECT_THAT(DataLoader::Create(&stream, 0, 100, {.seq_len = 0}).status().message(),
              HasSubstr("sequence length 0"));
}

TEST(DataLoaderDeathTest, WrongShapesAndRangesAreNamed) {
  const TokenStream stream = MakeStream(100);
  const DataLoader loader = MakeLoader(stream, 0, 100, {.seq_len = 8});
  TestTensor tokens(DType::kI32, {16}), targets(DType::kI32, {8});
  EXPECT_DEATH((void)loader.Load(0, 2, tokens, targets), "i32\\[16\\], targets i32\\[8\\]");
  EXPECT_DEATH((void)loader.Load(-1, 2, tokens, tokens), "2 samples of 8 from -1");
  EXPECT_DEATH((void)DataLoader::Create(&stream, 0, 101, {.seq_len = 8}), "\\[0, 101\\) of 100");
}

}  // namespace
}  // namespace strake
