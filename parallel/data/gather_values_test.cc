#include "parallel/data/gather_values.h"

#include <cstdint>

#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/data/gradient_buckets.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using testing::SameBits;
using testing::TestTensor;

TEST(GatherValuesTest, EveryRankGetsEachRanksRange) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (int64_t num_units = 0; num_units < 6; ++num_units) {
      for (int dp = 1; dp <= 4; ++dp) {
        const absl::Status status = RunOnThreads(
            {.dp = dp, .pp = 1, .cp = 1, .tp = 1}, {.check = true},
            [&](const Mesh& mesh) -> absl::Status {
              Communicator& group = mesh.communicator(MeshAxis::kDp);
              const int64_t n = 64 * num_units;
              const TestTensor expected(dtype, {n}), values(dtype, {n});
              testing::FillNormal(expected, 1);
              const ShardRange own = DataParallelRange(n, dp, group.rank());
              testing::CopyConvert(expected->Rows(own.begin, own.end),
                                   values->Rows(own.begin, own.end));
              STRAKE_RETURN_IF_ERROR(GatherValues(values, group));
              EXPECT_TRUE(SameBits(values, expected)) << n << " elements, rank " << group.rank();
              EXPECT_EQ(group.stats().Total().calls, dp == 1 ? 0 : 1);
              return absl::OkStatus();
            });
        EXPECT_TRUE(status.ok()) << status;
      }
    }
  }
}

TEST(GatherValuesTest, AFailedRankIsAnError) {
  absl::Status of_rank_0;
  const absl::Status status =
      RunOnThreads({.dp = 2, .pp = 1, .cp = 1, .tp = 1}, {}, [&](const Mesh& mesh) -> absl::Status {
        if (mesh.rank() == 1) return absl::DataLossError("the disk of rank 1");
        const TestTensor values(DType::kF32, {128});
        return of_rank_0 = GatherValues(values, mesh.communicator(MeshAxis::kDp));
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(of_rank_0.code(), absl::StatusCode::kDataLoss) << of_rank_0;
}

}  // namespace
}  // namespace strake
