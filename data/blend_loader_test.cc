#include "data/blend_loader.h"

#include <string>
#include <vector>

#include "core/tensor/sequence_chunks.h"
#include "core/testing/test_tensor.h"
#include "data/token_batch.h"
#include "data/token_file.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::SameBits;
using testing::TestTensor;

constexpr int64_t kSeqLen = 4;

// A source of `num_samples` samples, whose token i is first_token + i.
TokenStream MakeSource(const std::string& name, int32_t first_token, int64_t num_samples) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < num_samples * kSeqLen + 1; ++i) tokens.push_back(first_token + i);
  const std::string path = ::testing::TempDir() + "/" + name + ".bin";
  EXPECT_TRUE(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok());
  auto stream = TokenStream::Open({path}, 1 << 16);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *std::move(stream);
}

DataLoader MakeLoader(const TokenStream& stream, uint64_t seed) {
  auto loader = DataLoader::Create(&stream, 0, stream.num_tokens(), {kSeqLen, seed});
  EXPECT_TRUE(loader.ok()) << loader.status();
  return *std::move(loader);
}

class BlendLoaderTest : public ::testing::Test {
 protected:
  BlendLoader MakeBlendLoader() const {
    return BlendLoader(*Blend::Create({{"a", 0.5}, {"b", 0.3}, {"c", 0.2}}),
                       {MakeLoader(a_, 1), MakeLoader(b_, 2), MakeLoader(c_, 3)});
  }

  TokenStream a_ = MakeSource("a", 0, 20), b_ = MakeSource("b", 1000, 7),
              c_ = MakeSource("c", 2000, 40);
};

TEST_F(BlendLoaderTest, ASampleIsThatOfItsSource) {
  const BlendLoader loader = MakeBlendLoader();
  const std::vector<DataLoader> alone = {MakeLoader(a_, 1), MakeLoader(b_, 2), MakeLoader(c_, 3)};
  std::vector<int64_t> taken(3);
  TestTensor tokens(DType::kI32, {kSeqLen}), targets(DType::kI32, {kSeqLen});
  TestTensor own_tokens(DType::kI32, {kSeqLen}), own_targets(DType::kI32, {kSeqLen});
  for (int64_t n = 0; n < 400; ++n) {
    ASSERT_TRUE(loader.Load(n, 1, tokens, targets).ok());
    const int source = tokens->data<int32_t>()[0] / 1000;
    ASSERT_EQ(loader.blend().At(n).source, source);
    ASSERT_TRUE(alone[source].Load(taken[source]++, 1, own_tokens, own_targets).ok());
    EXPECT_TRUE(SameBits(tokens, own_tokens)) << n;
    EXPECT_TRUE(SameBits(targets, own_targets)) << n;
  }
  EXPECT_THAT(taken, ::testing::ElementsAre(200, 120, 80));
}

// A stream beside documents: in a batch with positions each of its samples is a document.
TEST_F(BlendLoaderTest, SourcesHaveTheirOwnDocuments) {
  const DataLoader::Options mask = {kSeqLen, 2, true, DocumentMode::kMask};
  const auto masked = DataLoader::Create(&b_, TokenRanges({{0, b_.num_tokens()}}), mask,
                                         {.begins = {0, 3, 9, 10, 11, 20}});
  ASSERT_TRUE(masked.ok()) << masked.status();
  const Blend blend = *Blend::Create({{"a", 0.5}, {"b", 0.5}});
  const BlendLoader loader(blend, {MakeLoader(a_, 1), *masked});
  EXPECT_TRUE(loader.has_documents());
  EXPECT_FALSE(MakeBlendLoader().has_documents());
  EXPECT_EQ(MakeBlendLoader().NumTargets(5, 10), 10 * kSeqLen);
  constexpr int64_t kFirst = 9, kCount = 40;
  const Shape shape = {kCount * kSeqLen};
  TestTensor tokens(DType::kI32, shape), targets(DType::kI32, shape), positions(DType::kI32, shape);
  TokenBatch batch = {.tokens = tokens, .targets = targets, .positions = positions};
  ASSERT_TRUE(loader.Load(kFirst, kCount, &batch).ok());
  std::vector<int64_t> lengths;
  int64_t num_targets = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const Blend::Place place = blend.At(kFirst + i);
    TestTensor one[3] = {
        {DType::kI32, {kSeqLen}}, {DType::kI32, {kSeqLen}}, {DType::kI32, {kSeqLen}}};
    TokenBatch own = {.tokens = one[0], .targets = one[1], .positions = one[2]};
    ASSERT_TRUE(loader.loader(place.source).Load(place.sample, 1, &own).ok());
    lengths.insert(lengths.end(), own.lengths.begin(), own.lengths.end());
    num_targets += loader.loader(place.source).NumTargets(place.sample, 1);
    const int64_t begin = i * kSeqLen, end = begin + kSeqLen;
    EXPECT_TRUE(SameBits(tokens->Rows(begin, end), own.tokens));
    EXPECT_TRUE(SameBits(targets->Rows(begin, end), own.targets));
    EXPECT_TRUE(SameBits(positions->Rows(begin, end), own.positions));
  }
  EXPECT_EQ(batch.lengths, lengths);
  EXPECT_EQ(loader.NumTargets(kFirst, kCount), num_targets);
  EXPECT_LT(num_targets, kCount * kSeqLen);
}

TEST_F(BlendLoaderTest, RanksLoadTheirChunksOfTheSameSamples) {
  const BlendLoader loader = MakeBlendLoader();
  constexpr int64_t kCount = 30;
  TestTensor tokens(DType::kI32, {kCount * kSeqLen}), targets(DType::kI32, {kCount * kSeqLen});
  ASSERT_TRUE(loader.Load(7, kCount, tokens, targets).ok());
  for (int rank = 0; rank < 2; ++rank) {
    const SequenceChunks chunks = {.rank = rank, .num_ranks = 2};
    const Shape shape = {kCount * kSeqLen / 2};
    TestTensor own_tokens(DType::kI32, shape), own_targets(DType::kI32, shape);
    TokenBatch batch = {.tokens = own_tokens, .targets = own_targets};
    ASSERT_TRUE(loader.Load(7, kCount, &batch, chunks).ok());
    int64_t at = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      for (const ShardRange& chunk : chunks.Of(kSeqLen)) {
        const int64_t begin = i * kSeqLen + chunk.begin, end = i * kSeqLen + chunk.end;
        const int64_t to = at + chunk.size();
        EXPECT_TRUE(SameBits(own_tokens->Rows(at, to), tokens->Rows(begin, end)));
        EXPECT_TRUE(SameBits(own_targets->Rows(at, to), targets->Rows(begin, end)));
        at = to;
      }
    }
  }
}

TEST_F(BlendLoaderTest, OneSourceIsItsLoader) {
  const DataLoader alone = MakeLoader(a_, 5);
  const BlendLoader loader(alone);
  EXPECT_EQ(loader.num_samples(), 20);
  const Shape shape = {50 * kSeqLen};
  TestTensor tokens(DType::kI32, shape), targets(DType::kI32, shape);
  TestTensor own_tokens(DType::kI32, shape), own_targets(DType::kI32, shape);
  ASSERT_TRUE(loader.Load(13, 50, tokens, targets).ok());
  ASSERT_TRUE(alone.Load(13, 50, own_tokens, own_targets).ok());
  EXPECT_TRUE(SameBits(tokens, own_tokens));
  EXPECT_TRUE(SameBits(targets, own_targets));
}

TEST_F(BlendLoaderTest, EpochsAreOfEachSource) {
  const BlendLoader loader = MakeBlendLoader();
  EXPECT_EQ(loader.num_samples(), 67);
  EXPECT_EQ(loader.Epochs(0, 160), 4);
  EXPECT_EQ(loader.Epochs(1, 160), 48.0 / 7);
  EXPECT_EQ(loader.Epochs(2, 160), 0.8);
}

// A run of at least four epochs of each source, resumed ten times with other ranks and
// micro-batches, trains on the samples of one that was never stopped.
TEST_F(BlendLoaderTest, ResumedRunsLoadTheSamplesOfAnUninterruptedOne) {
  constexpr int64_t kGlobalBatch = 24, kSteps = 35;
  constexpr int64_t kNumSamples = kGlobalBatch * kSteps;
  const Shape shape = {kNumSamples * kSeqLen};
  TestTensor tokens(DType::kI32, shape), targets(DType::kI32, shape);
  {
    const BlendLoader loader = MakeBlendLoader();
    for (int source = 0; source < 3; ++source) EXPECT_GE(loader.Epochs(source, kNumSamples), 4);
    ASSERT_TRUE(loader.Load(0, kNumSamples, tokens, targets).ok());
  }
  struct Layout {
    int64_t ranks, micro_batch;
  };
  const std::vector<Layout> layouts = {{1, 24}, {2, 1}, {3, 8},  {4, 2}, {1, 1}, {6, 4},
                                       {8, 3},  {2, 6}, {12, 2}, {3, 1}, {24, 1}};
  TestTensor resumed(DType::kI32, shape), resumed_targets(DType::kI32, shape);
  for (size_t i = 0; i < layouts.size(); ++i) {
    const auto [ranks, micro_batch] = layouts[i];
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const BlendLoader loader = MakeBlendLoader();
      const int64_t begin = i * kSteps / layouts.size(), end = (i + 1) * kSteps / layouts.size();
      ASSERT_LT(begin, end);
      for (int64_t sample = begin * kGlobalBatch + rank * micro_batch; sample < end * kGlobalBatch;
           sample += ranks * micro_batch) {
        const int64_t first = sample * kSeqLen, last = first + micro_batch * kSeqLen;
        ASSERT_TRUE(loader
                        .Load(sample, micro_batch, resumed->Rows(first, last),
                              resumed_targets->Rows(first, last))
                        .ok());
      }
    }
  }
  EXPECT_TRUE(SameBits(resumed, tokens));
  EXPECT_TRUE(SameBits(resumed_targets, targets));
}

TEST_F(BlendLoaderTest, LoadersOfOtherLengthsAreNamed) {
  const auto longer = DataLoader::Create(&b_, 0, b_.num_tokens(), {.seq_len = 5});
  ASSERT_TRUE(longer.ok());
  const Blend blend = *Blend::Create({{"a", 1}, {"b", 1}});
  EXPECT_DEATH(BlendLoader(blend, {MakeLoader(a_, 1), *longer}), "samples of 4 and of 5 tokens");
  EXPECT_DEATH(BlendLoader(blend, {MakeLoader(a_, 1)}), "1 loaders of 2 sources");
}

}  // namespace
}  // namespace strake
