#include "parallel/mesh/run_on_threads.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/status_macros.h"
#include "core/tensor/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/threads/threads_communicator.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

// The mesh's ranks of a group, in its order.
absl::StatusOr<std::vector<int32_t>> RanksOf(Communicator& group, const Mesh& mesh) {
  std::vector<int32_t> ranks(group.size());
  int32_t rank = mesh.rank();
  STRAKE_RETURN_IF_ERROR(group
                             .AllGather(Tensor(&rank, DType::kI32, {1}),
                                        Tensor(ranks.data(), DType::kI32, {group.size()}))
                             .Wait()
                             .status());
  return ranks;
}

TEST(RunOnThreadsTest, EachAxisJoinsTheRanksThatDifferInItAlone) {
  const MeshVector sizes{.dp = 3, .pp = 1, .cp = 2, .tp = 2};
  std::mutex mutex;
  std::set<int> seen;
  const absl::Status status =
      RunOnThreads(sizes, {.check = true}, [&](const Mesh& mesh) -> absl::Status {
        for (const MeshAxis axis : kMeshAxes) {
          Communicator& group = mesh.communicator(axis);
          EXPECT_EQ(group.axis(), MeshAxisName(axis));
          STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> ranks, RanksOf(group, mesh));
          MeshVector at = mesh.coordinates();
          int* const coordinates[kNumMeshAxes] = {&at.dp, &at.pp, &at.cp, &at.tp};
          for (int i = 0; i < group.size(); ++i) {
            *coordinates[static_cast<int>(axis)] = i;
            EXPECT_EQ(ranks[i], RankOf(sizes, at)) << MeshAxisName(axis);
          }
        }
        const std::lock_guard<std::mutex> lock(mutex);
        seen.insert(mesh.rank());
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen.size(), 12);
}

TEST(RunOnThreadsTest, GradientGroupJoinsTheRanksThatDifferInDpAndCp) {
  for (const MeshVector& sizes : {MeshVector{1, 1, 2, 1}, MeshVector{2, 1, 2, 1},
                                  MeshVector{3, 2, 2, 2}, MeshVector{2, 2, 1, 2}}) {
    const auto body = [&](const Mesh& mesh) -> absl::Status {
      Communicator& group = mesh.gradient_group();
      EXPECT_EQ(group.axis(), sizes.cp > 1 ? "dp_cp" : "dp");
      STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> ranks, RanksOf(group, mesh));
      std::vector<int32_t> expected;
      MeshVector at = mesh.coordinates();
      for (at.dp = 0; at.dp < sizes.dp; ++at.dp) {
        for (at.cp = 0; at.cp < sizes.cp; ++at.cp) expected.push_back(RankOf(sizes, at));
      }
      EXPECT_EQ(ranks, expected) << sizes.ToString();
      return absl::OkStatus();
    };
    EXPECT_EQ(RunOnThreads(sizes, {.check = true}, body), absl::OkStatus()) << sizes.ToString();
  }
}

TEST(RunOnThreadsTest, ReturnsTheCauseAndEndsTheOthers) {
  std::atomic<int> failed = 0;
  const absl::Status status =
      RunOnThreads({.dp = 2, .pp = 1, .cp = 1, .tp = 2}, {}, [&](const Mesh& mesh) -> absl::Status {
        if (mesh.rank() == 3) {
          return absl::DataLossError("the disk of rank 3");
        }
        // Rank 0 shares no axis with rank 3.
        const MeshAxis axis = mesh.rank() == 2 ? MeshAxis::kTp : MeshAxis::kDp;
        while (mesh.communicator(axis).Barrier().ok()) {
        }
        ++failed;
        return mesh.communicator(axis).Barrier();
      });
  EXPECT_EQ(status, absl::DataLossError("the disk of rank 3"));
  EXPECT_EQ(failed, 3);
}

TEST(RunOnThreadsTest, ReturnsTheCauseOfWhatARankDropped) {
  std::atomic<bool> has_dropped = false, is_told = false;
  const absl::Status status =
      RunOnThreads({.dp = 1, .pp = 1, .cp = 1, .tp = 2}, {}, [&](const Mesh& mesh) -> absl::Status {
        Communicator& tp = mesh.communicator(MeshAxis::kTp);
        if (mesh.rank() == 0) {
          while (!has_dropped) std::this_thread::yield();
          const absl::Status dropped = tp.Barrier();
          EXPECT_THAT(std::string(dropped.message()), HasSubstr("dropped all_reduce_sum #0"));
          is_told = true;
          return dropped;
        }
        float x = 0;
        { const auto pending = tp.AllReduceSum(Tensor(&x, DType::kF32, {1})); }
        has_dropped = true;
        while (!is_told) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));  // rank 0's error is the first
        return absl::DataLossError("the disk of rank 1");
      });
  EXPECT_EQ(status, absl::DataLossError("the disk of rank 1"));
}

TEST(MeshTest, RanksMustBeGivenOneShape) {
  const auto worlds = CreateThreadsCommunicators(2);
  std::thread other([&] {
    EXPECT_EQ(Mesh::Create({2, 1, 1, 1}, *worlds[0]).status().code(), absl::StatusCode::kCancelled);
  });
  EXPECT_EQ(Mesh::Create({1, 1, 1, 2}, *worlds[1]).status(),
            absl::InvalidArgumentError("[mesh] rank 1 was given dp 1, pp 1, cp 1, tp 2, but rank 0 "
                                       "dp 2, pp 1, cp 1, tp 1"));
  worlds[1]->Abort(absl::CancelledError("the test is over"));
  other.join();
}

TEST(RunOnThreadsTest, RankZeroRunsOnTheCallingThread) {
  const auto caller = std::this_thread::get_id();
  EXPECT_TRUE(RunOnThreads({1, 1, 1, 2}, {}, [&](const Mesh& mesh) {
                EXPECT_EQ(std::this_thread::get_id() == caller, mesh.rank() == 0);
                return absl::OkStatus();
              }).ok());
}

}  // namespace
}  // namespace strake
