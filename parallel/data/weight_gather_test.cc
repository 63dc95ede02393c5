#include "parallel/data/weight_gather.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/comm/threads/threads_communicator.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using testing::SameBits;
using testing::TestTensor;

// Adds five. Where `parts` is true, the arena's second part begins at the third, and the fourth is
// alone in its bucket.
void AddVectors(ParameterArena* arena, bool parts) {
  for (const int64_t size : {35, 3, 210, 7, 130}) {
    if (parts && size == 210) arena->StartPart();
    arena->Add({{absl::StrCat("w", size), size}}, {size}, true);
  }
  arena->records()[3].own_bucket = parts;
}

// Calls body(arena, gather, dp, expected) on each rank of dp, whose arena holds its own parts of
// `expected`, the same on all ranks, and zeros elsewhere.
using GatherBody = std::function<absl::Status(const ParameterArena&, WeightGather&, Communicator&,
                                              const Tensor& expected)>;

absl::Status OnGatheringRanks(DType dtype, int dp, const GradientReducerOptions& options,
                              const GatherBody& body, bool parts = false) {
  return RunOnThreads(
      {.dp = dp, .pp = 1, .cp = 1, .tp = 1}, {.check = true},
      [&](const Mesh& mesh) -> absl::Status {
        Communicator& group = mesh.communicator(MeshAxis::kDp);
        ParameterArena arena;
        AddVectors(&arena, parts);
        PadBuckets(&arena, dtype, dp, options);
        STRAKE_RETURN_IF_ERROR(arena.Allocate(dtype, /*with_gradients=*/false));
        const TestTensor expected(dtype, {arena.num_elements()});
        testing::FillNormal(expected, 1);
        for (const ShardRange& range : UpdatedRanges(arena, dp, group.rank(), options)) {
          testing::CopyConvert(expected->Rows(range.begin, range.end),
                               arena.values().Rows(range.begin, range.end));
        }
        WeightGather gather(arena, group, options);
        return body(arena, gather, group, expected);
      });
}

TEST(WeightGatherTest, EveryRankGetsEachRanksParts) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    for (int dp = 2; dp <= 4; ++dp) {
      for (const int64_t bucket_bytes : {1, 1000, 1 << 20}) {
        for (const bool overlap : {true, false}) {
          const auto body = [&](const ParameterArena& arena, WeightGather& gather,
                                Communicator& group, const Tensor& expected) -> absl::Status {
            gather.Start();
            EXPECT_EQ(gather.in_flight(), overlap);
            STRAKE_RETURN_IF_ERROR(gather.WaitForAll());
            EXPECT_TRUE(SameBits(arena.values(), expected)) << "rank " << group.rank();
            const CollectiveStats::Entry moved = {
                static_cast<int64_t>(GradientBuckets(arena, bucket_bytes).size()),
                static_cast<int64_t>(arena.values().num_bytes())};
            EXPECT_EQ(group.stats()[CollectiveKind::kAllGather], moved);
            EXPECT_EQ(group.stats().Total(), moved);
            return absl::OkStatus();
          };
          for (const bool parts : {false, true}) {
            const absl::Status status = OnGatheringRanks(
                dtype, dp, {.zero = 1, .bucket_bytes = bucket_bytes, .overlap = overlap}, body,
                parts);
            EXPECT_TRUE(status.ok()) << status;
          }
        }
      }
    }
  }
}

// Buckets hold one parameter each: those before a parameter have arrived with it, and no other is
// waited for.
TEST(WeightGatherTest, WaitsUpToTheParametersBucket) {
  const absl::Status status =
      OnGatheringRanks(DType::kF32, 2, {.zero = 2, .bucket_bytes = 1},
                       [&](const ParameterArena& arena, WeightGather& gather, Communicator&,
                           const Tensor& expected) -> absl::Status {
                         gather.Start();
                         for (const int i : {0, 2, 1, 4}) {
                           const ParameterRecord& record = arena.records()[i];
                           gather.WaitFor(record.parameter);
                           EXPECT_TRUE(SameBits(arena.values().Rows(0, record.end()),
                                                expected.Rows(0, record.end())))
                               << i;
                           EXPECT_EQ(gather.in_flight(), i != 4) << i;
                         }
                         return gather.WaitForAll();
                       });
  EXPECT_TRUE(status.ok()) << status;
}

// Four buckets: the first two, the third, the fourth and the fifth vector.
TEST(WeightGatherTest, WaitsUpToTheBucketWithinAPart) {
  const auto body = [](const ParameterArena& arena, WeightGather& gather, Communicator&,
                       const Tensor& expected) -> absl::Status {
    EXPECT_EQ(GradientBuckets(arena, 1 << 20).size(), 4);
    gather.Start();
    for (const int i : {0, 2, 3, 4}) {
      const ParameterRecord& record = arena.records()[i];
      gather.WaitFor(record.parameter);
      EXPECT_TRUE(SameBits(arena.values().Rows(0, record.end()), expected.Rows(0, record.end())))
          << i;
      EXPECT_EQ(gather.in_flight(), i != 4) << i;
    }
    return gather.WaitForAll();
  };
  const absl::Status status =
      OnGatheringRanks(DType::kF32, 2, {.zero = 2, .bucket_bytes = 1 << 20}, body, /*parts=*/true);
  EXPECT_TRUE(status.ok()) << status;
}

TEST(WeightGatherTest, AFailedRankIsAnErrorOfWaitForAll) {
  absl::Status of_rank_0;
  const absl::Status status =
      OnGatheringRanks(DType::kF32, 2, {.zero = 1, .bucket_bytes = 1},
                       [&](const ParameterArena& arena, WeightGather& gather, Communicator& group,
                           const Tensor&) -> absl::Status {
                         if (group.rank() == 1) return absl::DataLossError("the disk of rank 1");
                         gather.Start();
                         gather.WaitFor(arena.records()[2].parameter);
                         return of_rank_0 = gather.WaitForAll();
                       });
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(of_rank_0.code(), absl::StatusCode::kDataLoss) << of_rank_0;
}

TEST(WeightGatherDeathTest, StartsAgainOnlyAfterAllHaveArrived) {
  const GradientReducerOptions options = {.zero = 1, .bucket_bytes = 1};
  const auto ranks = CreateThreadsCommunicators(2, {});
  ParameterArena arena;
  AddVectors(&arena, /*parts=*/false);
  PadBuckets(&arena, DType::kF32, 2, options);
  ASSERT_TRUE(arena.Allocate(DType::kF32, /*with_gradients=*/false).ok());
  WeightGather gather(arena, *ranks[0], options);
  gather.Start();
  EXPECT_DEATH(gather.Start(), "before WaitForAll");
}

}  // namespace
}  // namespace strake
