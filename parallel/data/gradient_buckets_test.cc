#include "parallel/data/gradient_buckets.h"

#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;

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

TEST(PadBucketsTest, EveryBucketHasEqualParts) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBf16}) {
    for (const int64_t bucket_bytes : {1, 4 * 200, 4 * 512, 1 << 20}) {
      for (const int num_ranks : {1, 2, 3, 4, 16}) {
        ParameterArena plain, padded;
        for (ParameterArena* arena : {&plain, &padded}) {
          for (const int64_t size : {35, 210, 1, 130}) arena->Add({{"p", size}}, {size}, false);
        }
        PadBuckets(&padded, dtype, num_ranks, {.zero = 1, .bucket_bytes = bucket_bytes});
        PadBuckets(&plain, dtype, num_ranks, {.zero = 0, .bucket_bytes = bucket_bytes});
        plain.AllocateDryRun(dtype);
        padded.AllocateDryRun(dtype);
        EXPECT_EQ(plain.num_elements(), 576);
        const auto buckets = GradientBuckets(padded, bucket_bytes);
        const auto without = GradientBuckets(plain, bucket_bytes);
        ASSERT_EQ(buckets.size(), without.size());
        int64_t end = padded.num_elements();
        for (size_t b = 0; b < buckets.size(); ++b) {
          const int64_t multiple = 64 * num_ranks;
          EXPECT_EQ(buckets[b].size(), (without[b].size() + multiple - 1) / multiple * multiple);
          EXPECT_EQ(buckets[b].end, end);
          end = buckets[b].begin;
        }
        EXPECT_EQ(end, 0);
      }
    }
  }
}

TEST(UpdatedRangesTest, AreTheRanksPartsInAscendingOrder) {
  ParameterArena arena;
  for (const int64_t size : {35, 210, 1, 130}) arena.Add({{"p", size}}, {size}, false);
  const GradientReducerOptions options = {.zero = 2, .bucket_bytes = 4 * 192};
  PadBuckets(&arena, DType::kF32, 2, options);  // 64, 320 and 192 elements become
  arena.AllocateDryRun(DType::kF32);            // 128, 384 and 256
  EXPECT_THAT(UpdatedRanges(arena, 2, 0, options),
              ElementsAre(ShardRange{0, 64}, ShardRange{128, 320}, ShardRange{512, 640}));
  EXPECT_THAT(UpdatedRanges(arena, 2, 1, options),
              ElementsAre(ShardRange{64, 128}, ShardRange{320, 512}, ShardRange{640, 768}));
  EXPECT_THAT(UpdatedRanges(arena, 1, 0, options), ElementsAre(ShardRange{0, 768}));
  EXPECT_THAT(UpdatedRanges(arena, 2, 1, {.zero = 0}), ElementsAre(ShardRange{0, 768}));
}

TEST_F(GradientBucketsTest, DeathOfWrongArguments) {
  EXPECT_DEATH((void)GradientBuckets(parameters_, 0), "\\[gradient_buckets\\] bucket_bytes");
  EXPECT_DEATH((void)BucketPart({0, 192}, 2, 0), "192 elements, rank 0 of 2");
  EXPECT_DEATH((void)BucketPart({0, 128}, 2, 2), "128 elements, rank 2 of 2");
}

}  // namespace
}  // namespace strake
