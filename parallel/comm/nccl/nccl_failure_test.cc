// Ranks that fail, leave or do not come, while NCCL enqueues in the call or on a thread of its own.
#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "core/cuda/cuda_runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"
#include "parallel/comm/testing/nccl/nccl_ranks.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class NcclFailureTest : public ::testing::TestWithParam<bool> {
 private:
  ScopedNcclBehavior behavior_{GetParam() ? NcclBehavior{.polls_in_progress = 3, .own_thread = true}
                                          : NcclBehavior{}};
};

INSTANTIATE_TEST_SUITE_P(Thread, NcclFailureTest, ::testing::Bool(), [](const auto& info) {
  return info.param ? "OnItsOwnThread" : "InTheCall";
});

TEST_P(NcclFailureTest, ARankThatDoesNotComeIsNamed) {
  RunOnNcclGpus({.axis = "tp", .timeout = std::chrono::milliseconds(3000)}, {3},
                [](Communicator& comm, CudaStream stream) {
                  const NcclGpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
                  if (comm.rank() == 1) return;
                  ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
                  const absl::Status status = comm.WaitForStream(stream);
                  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
                  EXPECT_THAT(
                      std::string(status.message()),
                      AllOf(HasSubstr("[cuda_stream, axis tp, rank "),
                            HasSubstr("rank 1 of axis tp did not join within 3000 ms: rank "),
                            HasSubstr("waits in all_reduce_sum #0 of f32[4] at ")));
                  // Later calls have the same cause, and the GPU is free.
                  EXPECT_THAT(std::string(comm.AllReduceSum(x).Wait().status().message()),
                              HasSubstr("rank 1 of axis tp did not join"));
                  EXPECT_TRUE(SynchronizeCudaStream(stream).ok());
                });
}

TEST_P(NcclFailureTest, AnAbortEndsCollectivesUnderWay) {
  RunOnNcclGpus({.axis = "dp", .timeout = std::chrono::minutes(1)}, {3},
                [](Communicator& comm, CudaStream stream) {
                  if (comm.rank() == 2) return comm.Abort(absl::DataLossError("a torn page"));
                  const NcclGpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
                  const absl::Status started = comm.AllReduceSum(x).Wait().status();
                  CudaEvent event = CudaEvent::Create().value();
                  ASSERT_TRUE(event.Record(stream).ok());
                  const absl::Status status = started.ok() ? comm.WaitForEvent(event) : started;
                  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
                  EXPECT_THAT(std::string(status.message()),
                              HasSubstr("rank 2 of axis dp aborted: a torn page"));
                });
}

TEST_P(NcclFailureTest, ErrorsThatNcclFindsLaterReachEveryone) {
  RunOnNcclGpus(
      {.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream stream) {
        const NcclGpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
        ASSERT_TRUE(comm.Barrier().ok());
        if (comm.rank() == 1) {
          const absl::Status status = comm.Barrier();
          EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 of axis world [nccl]"));
          return;
        }
        ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
        SetNcclBehavior({.async_error = NcclResult::kRemoteError});
        const absl::Status status = comm.WaitForStream(stream);
        EXPECT_THAT(std::string(status.message()), HasSubstr("failed: remote error"));
      });
}

TEST_P(NcclFailureTest, CallsOnTheGpuAreComparedInTheCheckMode) {
  RunOnNcclGpus({.axis = "dp", .timeout = std::chrono::minutes(1), .check = true}, {2},
                [](Communicator& comm, CudaStream) {
                  const NcclGpuTensor x(DType::kF32, 4 + comm.rank());
                  const absl::Status status = comm.AllReduceSum(x).Wait().status();
                  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
                  EXPECT_THAT(
                      std::string(status.message()),
                      AllOf(HasSubstr("on axis dp, ranks disagree: rank 0 called all_reduce_sum "
                                      "#0 of f32[4]"),
                            HasSubstr("rank 1 called all_reduce_sum #0 of f32[5]"),
                            HasSubstr("nccl_failure_test.cc:")));
                });
}

TEST_P(NcclFailureTest, ADroppedResultFailsTheGroup) {
  RunOnNcclGpus({.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream) {
    const NcclGpuTensor x(DType::kF32, 4);
    if (comm.rank() == 1) {
      const auto pending = comm.AllReduceSum(x);
      return;
    }
    EXPECT_THAT(std::string(comm.Barrier().message()),
                HasSubstr("rank 1 of axis world dropped all_reduce_sum #0 of f32[4]"));
  });
}

// On the bound stream, each group's last collective follows one of the other group's.
TEST_P(NcclFailureTest, AnAbortEndsGroupsThatWaitForOneAnother) {
  RunOnNcclGpus({.timeout = std::chrono::minutes(1)}, {2},
                [](Communicator& comm, CudaStream stream) {
                  const auto first = comm.Split(0, 0, "first"), second = comm.Split(0, 0, "second");
                  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
                  const NcclGpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
                  if (comm.rank() == 0) {
                    for (Communicator* const group : {first->get(), second->get(), first->get()}) {
                      ASSERT_TRUE(group->AllReduceSum(x).Wait().ok());
                    }
                  }
                  ASSERT_TRUE(comm.Barrier().ok());
                  if (comm.rank() == 1) return comm.Abort(absl::DataLossError("a torn page"));
                  EXPECT_EQ(comm.WaitForStream(stream).code(), absl::StatusCode::kDataLoss);
                  EXPECT_TRUE(SynchronizeCudaStream(stream).ok());
                });
}

TEST_P(NcclFailureTest, AGroupThatGoesWaitsForItsCollectivesUntilTheTimeout) {
  RunOnNcclGpus(
      {.timeout = std::chrono::milliseconds(3000)}, {2}, [](Communicator& comm, CudaStream) {
        auto part = comm.Split(0, comm.rank(), "part");
        ASSERT_TRUE(part.ok()) << part.status();
        if (comm.rank() == 1) return;
        const NcclGpuTensor x(DType::kF32, 4);
        ASSERT_TRUE((*part)->AllReduceSum(x).Wait().ok());
        *part = nullptr;
        EXPECT_THAT(std::string(comm.Barrier().message()),
                    HasSubstr("rank 1 of axis part did not join within 3000 ms: rank 0 waits in"));
      });
}

// Otherwise the memory that they use could not be freed.
TEST_P(NcclFailureTest, AGroupThatGoesAfterAFailureEndsItsCollectives) {
  RunOnNcclGpus({.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream) {
    const auto part = comm.Split(0, comm.rank(), "part");
    ASSERT_TRUE(part.ok()) << part.status();
    const NcclGpuTensor x(DType::kF32, 4);
    if (comm.rank() == 1) const auto dropped = (*part)->AllReduceSum(x);
  });
}

TEST(NcclRefusalTest, AnErrorOfACallIsTheGroups) {
  for (const char* const call : {"ncclGroupStart", "ncclAllReduce", "ncclGroupEnd"}) {
    const ScopedNcclBehavior behavior({.failing_call = call});
    RunOnNcclGpus({.axis = "dp"}, {1}, [](Communicator& comm, CudaStream) {
      const NcclGpuTensor x(DType::kF32, 4);
      EXPECT_THAT(std::string(comm.AllReduceSum(x).Wait().status().message()),
                  HasSubstr("failed: unhandled cuda error"));
      EXPECT_FALSE(comm.Barrier().ok());
    });
  }
  const ScopedNcclBehavior behavior({.failing_call = "ncclCommSplit"});
  RunOnNcclGpus({.axis = "dp"}, {1}, [](Communicator& comm, CudaStream) {
    EXPECT_THAT(std::string(comm.Split(0, 0, "part").status().message()),
                HasSubstr("ncclCommSplit failed: unhandled cuda error"));
  });
}

TEST(NcclRefusalTest, AGroupThatCannotBeMade) {
  const ScopedNcclBehavior behavior(
      {.failing_call = "ncclCommInitRankConfig", .failure = NcclResult::kSystemError});
  NcclRendezvous rendezvous{.size = 1};
  const auto world = CreateNcclWorld(rendezvous, {}, ContractNccl());
  EXPECT_THAT(std::string(world.status().message()),
              HasSubstr("ncclCommInitRankConfig failed: unhandled system error"));
}

// In a process that starts anew: a fork of this one could hang, since its other threads may hold
// locks.
TEST(NcclDeathTest, SumsOfTypesThatNcclLacks) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  RunOnNcclGpus({}, {1}, [](Communicator& comm, CudaStream) {
    const NcclGpuTensor x(DType::kU16, 4);
    EXPECT_DEATH((void)comm.AllReduceSum(x), "\\[all_reduce_sum\\] NCCL has no u16");
  });
}

}  // namespace
}  // namespace strake::testing
