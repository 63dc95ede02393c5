#include "parallel/comm/threads/threads_communicator.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/testing/communicator_suite.h"

namespace strake::testing {
namespace {

using ::testing::HasSubstr;

// The ranks leave together: a rank that leaves early fails the others, which tests of that case
// trigger themselves.
void RunOnThreads(int size, const CommunicatorOptions& options,
                  const std::function<void(Communicator&)>& body) {
  const auto ranks = CreateThreadsCommunicators(size, options);
  std::vector<std::thread> threads;
  for (const auto& rank : ranks) threads.emplace_back([&] { body(*rank); });
  for (std::thread& thread : threads) thread.join();
}

const CommBackend kThreads = {.name = "Threads", .run = RunOnThreads};

INSTANTIATE_TEST_SUITE_P(Threads, CommunicatorTest, ::testing::Values(kThreads), CommBackendName);
INSTANTIATE_TEST_SUITE_P(Threads, CommunicatorFailureTest, ::testing::Values(kThreads),
                         CommBackendName);

TEST(ThreadsCommunicatorTest, CompletesWhileOthersCompute) {
  std::atomic<bool> received = false;
  RunOnThreads(3, {}, [&](Communicator& comm) {
    TestTensor x(DType::kF32, {100000});
    FillConstant(x, 1);
    auto pending = comm.AllReduceSum(x);
    if (comm.rank() != 2) {
      ASSERT_TRUE(pending.Wait().ok());
      received = true;
    } else {
      while (!received) std::this_thread::yield();
      ASSERT_TRUE(pending.Wait().ok());
    }
    EXPECT_EQ(x->data<float>()[99999], 3);
  });
}

TEST(ThreadsCommunicatorTest, ADroppedResultFailsTheGroup) {
  std::atomic<bool> dropped = false;
  RunOnThreads(2, {}, [&](Communicator& comm) {
    TestTensor x(DType::kF32, {10});
    FillConstant(x, 1);
    if (comm.rank() == 1) {
      { const auto pending = comm.AllReduceSum(x); }
      dropped = true;
      return;
    }
    while (!dropped) std::this_thread::yield();
    const absl::Status status = comm.AllReduceSum(x).Wait().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 1 of axis world dropped all_reduce_sum #0 of f32[10] at "));
  });
}

TEST(ThreadsCommunicatorTest, ARankThatLeavesIsMissedAtOnce) {
  for (const bool leave_first : {true, false}) {
    auto ranks = CreateThreadsCommunicators(2);
    std::atomic<bool> left = false;
    std::thread one([&] {
      if (!leave_first) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ranks[1].reset();
      left = true;
    });
    while (leave_first && !left) std::this_thread::yield();
    const absl::Status status = ranks[0]->Barrier();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 1 of axis world left the group before barrier #0 at "));
    one.join();
  }
}

TEST(ThreadsCommunicatorTest, ARankThatWaitsItselfIsNotToBlame) {
  std::atomic<int> num_failed = 0;
  RunOnThreads(4, {.timeout = std::chrono::milliseconds(4000)}, [&](Communicator& world) {
    const auto tp = world.Split(world.rank() / 2, 0, "tp");
    const auto dp = world.Split(world.rank() % 2, 0, "dp");
    ASSERT_TRUE(tp.ok() && dp.ok());
    absl::Status status;
    if (world.rank() == 2) status = (*dp)->Barrier();  // its timeout is over first
    if (world.rank() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      status = (*tp)->Barrier();
    }
    if (world.rank() % 2 == 0) {
      EXPECT_THAT(
          std::string(status.message()),
          HasSubstr("rank 1 of axis tp did not join within 4000 ms: rank 0 waits in barrier"));
      ++num_failed;
    }
    // The others compute instead of leaving.
    while (num_failed < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
}

TEST(ThreadsCommunicatorTest, MayLeaveOnceEverythingIsWaitedFor) {
  for (int round = 0; round < 50; ++round) {
    auto ranks = CreateThreadsCommunicators(4);
    std::vector<std::thread> threads;
    for (auto& rank : ranks) {
      threads.emplace_back([&rank] {
        double x = 1;
        EXPECT_TRUE(rank->AllReduceSum(Tensor(&x, DType::kF64, {1})).Wait().ok());
        EXPECT_EQ(x, 4);
        rank.reset();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(ThreadsCommunicatorTest, NobodyReadsABufferAfterAnError) {
  // For the sanitizers: the buffers are freed as soon as Wait() returns.
  int failed = 0;
  // On a busy machine the sum may be done before the abort: then repeat until an abort is in time.
  for (int round = 0; round < 30 || (failed == 0 && round < 1000); ++round) {
    std::atomic<int> errors = 0;
    RunOnThreads(3, {}, [&](Communicator& comm) {
      const auto x = std::make_unique<TestTensor>(DType::kF32, Shape{300000});
      FillConstant(*x, 1);
      ASSERT_TRUE(comm.Barrier().ok());
      auto pending = comm.AllReduceSum(*x);
      if (comm.rank() == 1) {
        std::this_thread::sleep_for(std::chrono::microseconds(10 * (round % 30)));
        comm.Abort(absl::InternalError("a fault"));
      }
      errors += !pending.Wait().ok();
    });
    failed += errors > 0;
  }
  EXPECT_GT(failed, 0);
}

TEST(ThreadsCommunicatorTest, TheSameBitsEveryTime) {
  std::vector<float> first;
  for (int round = 0; round < 5; ++round) {
    std::vector<float> result;
    RunOnThreads(4, {.check = round % 2 == 1}, [&](Communicator& comm) {
      TestTensor x(DType::kF32, {5000});
      FillNormal(x, comm.rank());
      ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
      ASSERT_TRUE(comm.CheckReplicated(x, "x").ok());
      if (comm.rank() == 0) result.assign(x->data<float>(), x->data<float>() + 5000);
    });
    if (round == 0) first = result;
    EXPECT_EQ(first, result);
  }
}

// One rank suffices for checks that come before any communication.
class CommunicatorDeathTest : public ::testing::Test {
 protected:
  CommunicatorDeathTest() : ranks_(CreateThreadsCommunicators(2)) {}
  Communicator& comm() { return *ranks_[0]; }
  std::vector<std::unique_ptr<Communicator>> ranks_;
};

TEST_F(CommunicatorDeathTest, ShapesAreNamed) {
  TestTensor x(DType::kF32, {4}), three(DType::kF32, {3}), two(DType::kF64, {2});
  EXPECT_DEATH((void)comm().AllReduceSum(Tensor()), "\\[all_reduce_sum\\] an undefined tensor");
  EXPECT_DEATH((void)comm().AllReduceSum(Tensor(nullptr, DType::kF32, {4})),
               "\\[all_reduce_sum\\] f32\\[4\\] has no memory");
  EXPECT_DEATH((void)comm().AllReduceMax(Tensor(x->raw(), DType::kC128, {2})),
               "\\[all_reduce_max\\] c128\\[2\\] has no order");
  EXPECT_DEATH((void)comm().ReduceScatterSum(three, x),
               "\\[reduce_scatter_sum\\] f32\\[3\\] in pieces of 1, 1 for 2 ranks");
  EXPECT_DEATH((void)comm().ReduceScatterSum(x, two),
               "\\[reduce_scatter_sum\\] f64\\[2\\] as piece 0 of f32\\[4\\] in pieces of 2, 2");
  EXPECT_DEATH((void)comm().AllGather(three, x), "\\[all_gather\\] f32\\[3\\] as piece 0 of f32");
  EXPECT_DEATH((void)comm().AllGather(three, x, {5, -1}), "\\[all_gather\\] pieces of 5, -1");
  EXPECT_DEATH((void)comm().AllGather(three, x, {3, 1, 0}), "of 3, 1, 0 for 2 ranks");
  EXPECT_DEATH((void)comm().AllToAll(x, three, {2, 2}, {1, 2}),
               "\\[all_to_all\\] x f32\\[4\\] in pieces of 2, 2, y f32\\[3\\] in pieces of 1, 2");
}

TEST_F(CommunicatorDeathTest, OverlapsAndPeersAreNamed) {
  TestTensor x(DType::kF32, {4});
  EXPECT_DEATH((void)comm().ReduceScatterSum(x, x->Rows(1, 3)), "2, 2, which overlap");
  EXPECT_DEATH((void)comm().AllToAll(x, x), "which overlap");
  EXPECT_DEATH((void)comm().Broadcast(x, 2), "\\[broadcast\\] peer 2 on rank 0 of 2");
  EXPECT_DEATH((void)comm().Send(x, 0), "\\[send\\] peer 0 on rank 0 of 2");
  EXPECT_DEATH((void)comm().Recv(x, -1), "\\[recv\\] peer -1 on rank 0 of 2");
  EXPECT_DEATH(comm().Abort(absl::OkStatus()), "rank 0 aborts without a cause");
  EXPECT_DEATH((void)comm().AllReduceSum(Tensor(x->raw(), DType::kF32, {4}, Device::kCuda)),
               "\\[all_reduce_sum\\] f32\\[4\\] is on a GPU: axis world has no bound CUDA stream");
}

}  // namespace
}  // namespace strake::testing
