#include "parallel/data/gradient_buckets.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;

// Adds four, at 0, 64, 320 and 384 of 576 if nothing is padded. Parts begin at `parts`, ascending
// from 0; `own` have buckets of their own.
void AddVectors(ParameterArena* arena, const std::vector<int>& parts, const std::vector<int>& own) {
  for (const int64_t size : {35, 210, 1, 130}) {
    const int i = static_cast<int>(arena->records().size());
    if (i > 0 && std::count(parts.begin(), parts.end(), i) > 0) arena->StartPart();
    arena->Add({{"p", size}}, {size}, false);
    arena->records().back().own_bucket = std::count(own.begin(), own.end(), i) > 0;
  }
}

class GradientBucketsTest : public ::testing::Test {
 protected:
  GradientBucketsTest() {
    AddVectors(&parameters_, {0}, {});
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

std::vector<ShardRange> BucketsOf(const std::vector<int>& parts, const std::vector<int>& own,
                                  int64_t bucket_bytes) {
  ParameterArena arena;
  AddVectors(&arena, parts, own);
  arena.AllocateDryRun(DType::kF32);
  return GradientBuckets(arena, bucket_bytes);
}

constexpr int64_t kLarge = int64_t{1} << 60;

TEST(GradientBucketsOfPartsTest, NeverCrossTheBeginOfAPart) {
  const ShardRange p0{0, 64}, p1{64, 320}, p2{320, 384}, p3{384, 576};
  EXPECT_THAT(BucketsOf({0, 2}, {}, kLarge), ElementsAre(ShardRange{320, 576}, ShardRange{0, 320}));
  EXPECT_THAT(BucketsOf({0, 2}, {}, 4 * 64 + 1), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(BucketsOf({0, 3}, {}, kLarge), ElementsAre(p3, ShardRange{0, 384}));
  // The small bucket of part 1 does not count for part 0.
  EXPECT_THAT(BucketsOf({0, 3}, {}, 4 * 320), ElementsAre(p3, ShardRange{64, 384}, p0));
  EXPECT_THAT(BucketsOf({0, 3}, {}, 4 * 321), ElementsAre(p3, ShardRange{0, 384}));
  EXPECT_THAT(BucketsOf({0, 1, 2, 3}, {}, kLarge), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(BucketsOf({0, 2}, {}, 1), ElementsAre(p3, p2, p1, p0));
}

TEST(GradientBucketsOfPartsTest, AParameterMayBeAloneInItsBucket) {
  const ShardRange p0{0, 64}, p1{64, 320}, p2{320, 384}, p3{384, 576};
  EXPECT_THAT(BucketsOf({0}, {0}, kLarge), ElementsAre(ShardRange{64, 576}, p0));
  EXPECT_THAT(BucketsOf({0}, {3}, kLarge), ElementsAre(p3, ShardRange{0, 384}));
  EXPECT_THAT(BucketsOf({0}, {1}, kLarge), ElementsAre(ShardRange{320, 576}, p1, p0));
  EXPECT_THAT(BucketsOf({0}, {2}, kLarge), ElementsAre(p3, p2, ShardRange{0, 320}));
  EXPECT_THAT(BucketsOf({0}, {2}, 4 * 192), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(BucketsOf({0}, {1, 2}, kLarge), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(BucketsOf({0}, {2}, 1), ElementsAre(p3, p2, p1, p0));
  EXPECT_THAT(BucketsOf({0, 2}, {3}, kLarge), ElementsAre(p3, p2, ShardRange{0, 320}));
}

// A table that begins one arena, and ends another.
TEST(GradientBucketsOfPartsTest, RanksPartsOfAParameterAloneAreThoseOfItsCopy) {
  for (const int64_t bucket_bytes : {int64_t{1}, int64_t{4 * 300}, kLarge}) {
    for (const int num_ranks : {2, 3, 4}) {
      const GradientReducerOptions options = {.zero = 1, .bucket_bytes = bucket_bytes};
      ParameterArena arenas[2];
      arenas[0].Add({{"table", 210}}, {210}, false);
      arenas[0].records().back().own_bucket = true;
      for (ParameterArena& arena : arenas) AddVectors(&arena, {0, 1}, {});
      arenas[1].Add({{"table", 210}}, {210}, false);
      arenas[1].records().back().own_bucket = true;
      for (ParameterArena& arena : arenas) {
        PadBuckets(&arena, DType::kF32, num_ranks, options);
        arena.AllocateDryRun(DType::kF32);
      }
      const ShardRange first = GradientBuckets(arenas[0], bucket_bytes).back();
      const ShardRange last = GradientBuckets(arenas[1], bucket_bytes).front();
      EXPECT_EQ(last.begin, arenas[1].records().back().offset);
      for (int rank = 0; rank < num_ranks; ++rank) {
        const ShardRange a = BucketPart(first, num_ranks, rank);
        const ShardRange b = BucketPart(last, num_ranks, rank);
        EXPECT_EQ(b.begin - last.begin, a.begin);
        EXPECT_EQ(b.size(), a.size());
      }
    }
  }
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
  EXPECT_THAT(UpdatedRanges(nothing, 2, 1, {.zero = 2}), ElementsAre(ShardRange{0, 0}));
}

struct PartsAndOwn {
  std::vector<int> parts = {0};
  std::vector<int> own = {};
};

class PadBucketsTest : public ::testing::TestWithParam<PartsAndOwn> {};

INSTANTIATE_TEST_SUITE_P(Layouts, PadBucketsTest,
                         ::testing::Values(PartsAndOwn{}, PartsAndOwn{{0, 3}},
                                           PartsAndOwn{{0, 1, 2}}, PartsAndOwn{{0}, {0}},
                                           PartsAndOwn{{0}, {2}}, PartsAndOwn{{0, 2}, {3}}));

TEST_P(PadBucketsTest, EveryBucketHasEqualParts) {
  const PartsAndOwn& layout = GetParam();
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBf16}) {
    for (const int64_t bucket_bytes : {1, 4 * 200, 4 * 512, 1 << 20}) {
      for (const int num_ranks : {1, 2, 3, 4, 16}) {
        ParameterArena plain, padded;
        for (ParameterArena* arena : {&plain, &padded}) {
          AddVectors(arena, layout.parts, layout.own);
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
          const auto first_of = [b](const ParameterArena& arena, const auto& cuts) {
            const auto& all = arena.records();
            return std::count_if(all.begin(), all.end(), [&](const ParameterRecord& record) {
              return record.offset < cuts[b].begin;
            });
          };
          EXPECT_EQ(first_of(padded, buckets), first_of(plain, without));
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
  AddVectors(&arena, {0}, {});
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
