#include "parallel/data/gradient_buckets.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;

TEST(DataParallelRangeTest, RangesAreAlignedEvenAndCoverTheSpace) {
  for (int64_t num_units = 0; num_units < 40; ++num_units) {
    for (int num_ranks = 1; num_ranks <= 17; ++num_ranks) {
      int64_t end = 0, smallest = 64 * num_units, largest = 0;
      for (int rank = 0; rank < num_ranks; ++rank) {
        const ShardRange range = DataParallelRange(64 * num_units, num_ranks, rank);
        EXPECT_EQ(range.begin, end);
        EXPECT_EQ(range.begin % 64, 0);
        smallest = std::min(smallest, range.size());
        largest = std::max(largest, range.size());
        end = range.end;
      }
      EXPECT_EQ(end, 64 * num_units) << num_ranks;
      EXPECT_LE(largest - smallest, 64) << num_units << " units, " << num_ranks << " ranks";
    }
  }
}

TEST(DataParallelRangeTest, OfThreeUnits) {
  EXPECT_EQ(DataParallelRange(192, 2, 0), (ShardRange{0, 64}));
  EXPECT_EQ(DataParallelRange(192, 2, 1), (ShardRange{64, 192}));
  EXPECT_EQ(DataParallelRange(192, 4, 0), (ShardRange{0, 0}));
}

TEST(DataParallelCountsTest, CountsWhatLiesInEachRange) {
  EXPECT_THAT(DataParallelCounts({0, 192}, 192, 2), ElementsAre(64, 128));
  EXPECT_THAT(DataParallelCounts({64, 128}, 192, 2), ElementsAre(0, 64));
  EXPECT_THAT(DataParallelCounts({10, 70}, 192, 3), ElementsAre(54, 6, 0));
  EXPECT_THAT(DataParallelCounts({70, 70}, 192, 3), ElementsAre(0, 0, 0));
}

class GradientBucketsTest : public ::testing::Test {
 protected:
  // At 0, 64, 320 and 384 of 576.
  GradientBucketsTest() {
    for (const int64_t size : {35, 210, 1, 130}) parameters_.Add({{"p", size}}, {size}, false);
    parameters_.AllocateDryRun(DType::kF32);
  }
  ParameterArena parameters_;
};

TEST_F(GradientBucketsTest, EndAsSoonAsTheyAreLargeEnough) {
  const ShardRange p0{0, 64}, p1{64, 320}, p2{320, 384}, p3{384, 576};
  EXPECT_THAT(GradientBuckets(parameters_, 1), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(GradientBuckets(parameters_, 4 * 64), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(GradientBuckets(parameters_, 4 * 64 + 1), ElementsAre(p3, ShardRange{64, 384}, p0));
  EXPECT_THAT(GradientBuckets(parameters_, 4 * 192), ElementsAre(p3, ShardRange{64, 384}, p0));
  EXPECT_THAT(GradientBuckets(parameters_, 4 * 512), ElementsAre(ShardRange{64, 576}, p0));
  EXPECT_THAT(GradientBuckets(parameters_, 4 * 513), ElementsAre(ShardRange{0, 576}));
  EXPECT_THAT(GradientBuckets(parameters_, int64_t{1} << 60), ElementsAre(ShardRange{0, 576}));
}

TEST_F(GradientBucketsTest, BytesAreThoseOfGradients) {
  ParameterArena bf16;
  for (int i = 0; i < 2; ++i) bf16.Add({{"p", 64}}, {64}, false);
  bf16.AllocateDryRun(DType::kBf16);
  EXPECT_EQ(GradientBuckets(bf16, 4 * 64).size(), 2);
  EXPECT_EQ(GradientBuckets(bf16, 4 * 64 + 1).size(), 1);
}

TEST(GradientBucketsOfNothingTest, AreNone) {
  ParameterArena nothing;
  nothing.AllocateDryRun(DType::kF32);
  EXPECT_TRUE(GradientBuckets(nothing, 1).empty());
}

TEST_F(GradientBucketsTest, DeathOfWrongArguments) {
  EXPECT_DEATH((void)GradientBuckets(parameters_, 0), "\\[gradient_buckets\\] bucket_bytes");
  EXPECT_DEATH((void)DataParallelRange(65, 2, 0), "65 elements, rank 0 of 2");
  EXPECT_DEATH((void)DataParallelRange(64, 2, 2), "64 elements, rank 2 of 2");
  EXPECT_DEATH((void)DataParallelCounts({0, 65}, 64, 2), "\\[0, 65\\) of 64");
}

}  // namespace
}  // namespace strake
