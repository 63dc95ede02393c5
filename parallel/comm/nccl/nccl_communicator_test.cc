#include "parallel/comm/nccl/nccl_communicator.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "gtest/gtest.h"
#include "parallel/comm/testing/communicator_suite.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"
#include "parallel/comm/testing/nccl/nccl_ranks.h"

namespace strake::testing {
namespace {

const CommBackend kNccl = {.name = "Nccl", .run = RunOnNccl};

INSTANTIATE_TEST_SUITE_P(TensorsOnTheCpu, CommunicatorTest, ::testing::Values(kNccl),
                         CommBackendName);
INSTANTIATE_TEST_SUITE_P(TensorsOnTheCpu, CommunicatorFailureTest, ::testing::Values(kNccl),
                         CommBackendName);

// --- Tensors on the GPU. ---

constexpr DType kReduced[] = {DType::kF32,  DType::kBf16, DType::kF64,
                              DType::kC128, DType::kI32,  DType::kI64};

// A small integer, so that every sum over ranks is exact in bf16.
double Value(int rank, int64_t i) { return (i * 7 + rank * 3) % 32; }

double SumOf(int size, int64_t i) {
  double sum = 0;
  for (int rank = 0; rank < size; ++rank) sum += Value(rank, i);
  return sum;
}

// NCCL enqueues on a thread of its own, and takes its time.
NcclBehavior Behavior(bool own_thread) {
  return own_thread ? NcclBehavior{.polls_in_progress = 3, .own_thread = true} : NcclBehavior{};
}

const char* ThreadName(bool own_thread) { return own_thread ? "OnItsOwnThread" : "InTheCall"; }

class NcclCommunicatorTest : public ::testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  CommunicatorOptions options() const {
    return {.timeout = std::chrono::minutes(1), .check = std::get<0>(GetParam())};
  }

 private:
  ScopedNcclBehavior behavior_{Behavior(std::get<1>(GetParam()))};
};

INSTANTIATE_TEST_SUITE_P(Check, NcclCommunicatorTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) ? "Compared" : "Unchecked") +
                                  ThreadName(std::get<1>(info.param));
                         });

TEST_P(NcclCommunicatorTest, Reductions) {
  RunOnNcclGpus(options(), {1, 2, 3, 4}, [](Communicator& comm, CudaStream stream) {
    const int size = comm.size(), rank = comm.rank();
    const auto mine = [&](int64_t i) { return Value(rank, i); };
    for (const DType dtype : kReduced) {
      for (const int64_t n : {0, 1, 37}) {
        const NcclGpuTensor sum(dtype, n, mine), max(dtype, n, mine);
        auto summed = comm.AllReduceSum(sum);
        if (dtype != DType::kC128) {
          ASSERT_TRUE(comm.AllReduceMax(max).Wait().ok());
          ExpectElements(comm, stream, max, [&](int64_t i) {
            double largest = 0;
            for (int r = 0; r < size; ++r) largest = std::max(largest, Value(r, i));
            return largest;
          });
        }
        ASSERT_TRUE(summed.Wait().ok());
        ExpectElements(comm, stream, sum, [&](int64_t i) { return SumOf(size, i); });
      }
      // Unequal pieces, then equal ones; apart and in place.
      std::vector<int64_t> ragged(size), equal(size, 5);
      for (int r = 0; r < size; ++r) ragged[r] = r % 3 == 1 ? 0 : 3 * r + 2;
      for (const auto& counts : {ragged, equal}) {
        int64_t begin = 0, total = 0;
        for (int r = 0; r < size; ++r) (r < rank ? begin : total) += counts[r];
        total += begin;
        const NcclGpuTensor x(dtype, total, mine), y(dtype, counts[rank]);
        ASSERT_TRUE(comm.ReduceScatterSum(x, y, counts).Wait().ok());
        const auto sums = [&](int64_t i) { return SumOf(size, begin + i); };
        ExpectElements(comm, stream, y, sums);
        ExpectElements(comm, stream, x, mine);
        const Tensor piece = x->Rows(begin, begin + counts[rank]);
        ASSERT_TRUE(comm.ReduceScatterSum(x, piece, counts).Wait().ok());
        ExpectElements(comm, stream, piece, sums);
      }
    }
  });
}

TEST_P(NcclCommunicatorTest, Moves) {
  RunOnNcclGpus(options(), {1, 2, 3, 4}, [](Communicator& comm, CudaStream stream) {
    const int size = comm.size(), rank = comm.rank();
    const auto mine = [&](int64_t i) { return Value(rank, i); };
    for (const DType dtype : {DType::kBf16, DType::kF32, DType::kC128, DType::kU16}) {
      std::vector<int64_t> ragged(size), equal(size, 5);
      for (int r = 0; r < size; ++r) ragged[r] = r % 3 == 1 ? 0 : 3 * r + 2;
      for (const auto& counts : {ragged, equal}) {
        int64_t total = 0;
        for (const int64_t count : counts) total += count;
        const NcclGpuTensor x(dtype, counts[rank], mine), y(dtype, total);
        ASSERT_TRUE(comm.AllGather(x, y, counts).Wait().ok());
        int64_t begin = 0;
        for (int r = 0; r < size; ++r) {
          ExpectElements(comm, stream, y->Rows(begin, begin + counts[r]),
                         [&](int64_t i) { return Value(r, i); });
          begin += counts[r];
        }
      }
      const NcclGpuTensor told(dtype, 9, mine);
      ASSERT_TRUE(comm.Broadcast(told, size - 1).Wait().ok());
      ExpectElements(comm, stream, told, [&](int64_t i) { return Value(size - 1, i); });
      // Rank s has (s + 2 d) % 4 elements for rank d.
      std::vector<int64_t> send(size), recv(size);
      int64_t sent = 0, received = 0;
      for (int r = 0; r < size; ++r) sent += send[r] = (rank + 2 * r) % 4;
      for (int r = 0; r < size; ++r) received += recv[r] = (r + 2 * rank) % 4;
      const NcclGpuTensor from(dtype, sent, [&](int64_t) { return rank + 1; }), to(dtype, received);
      ASSERT_TRUE(comm.AllToAll(from, to, send, recv).Wait().ok());
      int64_t at = 0;
      for (int r = 0; r < size; ++r) {
        ExpectElements(comm, stream, to->Rows(at, at + recv[r]), [&](int64_t) { return r + 1; });
        at += recv[r];
      }
    }
  });
}

TEST_P(NcclCommunicatorTest, MessagesRoundARing) {
  RunOnNcclGpus(options(), {2, 3}, [](Communicator& comm, CudaStream stream) {
    const int size = comm.size(), next = (comm.rank() + 1) % size;
    const int previous = (comm.rank() + size - 1) % size;
    const NcclGpuTensor x(DType::kF32, 7, [&](int64_t i) { return Value(comm.rank(), i); });
    const NcclGpuTensor y(DType::kF32, 7), z(DType::kF32, 7);
    auto sent = comm.Send(x, next);
    auto received = comm.Recv(y, previous);
    auto sent_again = comm.Send(x, next);
    auto received_again = comm.Recv(z, previous);
    ASSERT_TRUE(sent.Wait().ok());
    for (auto* pending : {&received, &sent_again, &received_again}) {
      ASSERT_TRUE(pending->Wait().ok());
    }
    for (const Tensor& tensor : {Tensor(y), Tensor(z)}) {
      ExpectElements(comm, stream, tensor, [&](int64_t i) { return Value(previous, i); });
    }
  });
}

// Rank 0 waits on the host for what rank 1 does with the message, or before it receives it.
TEST_P(NcclCommunicatorTest, MessagesStartWithoutAWaitOrTheirPeer) {
  RunOnNcclGpus(options(), {2}, [](Communicator& comm, CudaStream stream) {
    for (const bool receive_first : {true, false}) {
      const NcclGpuTensor x(DType::kF32, 7, [&](int64_t i) { return Value(comm.rank(), i); });
      const auto all = comm.Split(0, comm.rank(), "all");
      ASSERT_TRUE(all.ok()) << all.status();
      if (comm.rank() == 0) {
        auto sent = comm.Send(x, 1);
        comm.StartMessages();
        ASSERT_TRUE((*all)->Barrier().ok());
        ASSERT_TRUE(sent.Wait().ok());
        continue;
      }
      if (!receive_first) {
        ASSERT_TRUE((*all)->Barrier().ok());
      }
      ASSERT_TRUE(comm.Recv(x, 0).Wait().ok());
      ExpectElements(comm, stream, x, [](int64_t i) { return Value(0, i); });
      if (receive_first) {
        ASSERT_TRUE((*all)->Barrier().ok());
      }
    }
  });
}

TEST_P(NcclCommunicatorTest, OrderedWithTheBoundStreamAndWithinASplit) {
  RunOnNcclGpus(options(), {4}, [](Communicator& comm, CudaStream stream) {
    const auto half = comm.Split(comm.rank() % 2, -comm.rank(), "half");
    ASSERT_TRUE(half.ok()) << half.status();
    EXPECT_EQ((*half)->rank(), 1 - comm.rank() / 2);
    const NcclGpuTensor x(DType::kI32, 4, [&](int64_t) { return comm.rank(); }), y(DType::kI32, 4);
    // The host does not communicate between these.
    ASSERT_TRUE((*half)->AllReduceSum(x).Wait().ok());
    ASSERT_TRUE(CopyOnDevice(y->raw(), x->raw(), x->num_bytes(), stream).ok());
    auto sum = comm.AllReduceSum(y);
    ASSERT_TRUE(SetBytesOnDevice(x->raw(), 0, x->num_bytes(), stream).ok());
    ASSERT_TRUE(sum.Wait().ok());
    ASSERT_TRUE((*half)->Broadcast(x, 0).Wait().ok());
    ExpectElements(comm, stream, y, [](int64_t) { return 2 * (0 + 1 + 2 + 3); });
    ExpectElements(comm, stream, x, [](int64_t) { return 0; });
  });
}

// NCCL wants no kernels of the parent to run while it splits.
TEST_P(NcclCommunicatorTest, ASplitComesAfterTheCollectivesBefore) {
  RunOnNcclGpus(options(), {3}, [](Communicator& comm, CudaStream stream) {
    const NcclGpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    const auto all = comm.Split(0, comm.rank(), "all");
    ASSERT_TRUE(all.ok()) << all.status();
    ASSERT_TRUE((*all)->AllReduceSum(x).Wait().ok());
    ExpectElements(comm, stream, x, [](int64_t) { return 9; });
  });
}

// So that a product's blocks do not keep the other ranks waiting.
TEST_P(NcclCommunicatorTest, KernelsHaveHighPriority) {
  RunOnNcclGpus(options(), {2}, [](Communicator& comm, CudaStream stream) {
    EXPECT_EQ(DescribeEmulatedStream(stream).priority, CudaStreamPriority::kNormal);
    const NcclGpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    EXPECT_EQ(PriorityOfNcclKernels(), CudaStreamPriority::kHigh);
    EXPECT_TRUE(comm.WaitForStream(stream).ok());
  });
}

class NcclGraphTest : public ::testing::TestWithParam<bool> {
 private:
  ScopedNcclBehavior behavior_{Behavior(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(Thread, NcclGraphTest, ::testing::Bool(),
                         [](const auto& info) { return ThreadName(info.param); });

TEST_P(NcclGraphTest, ACapturedStepRunsItsCollectivesAgain) {
  RunOnNcclGpus(
      {.timeout = std::chrono::minutes(1)}, {3}, [](Communicator& comm, CudaStream stream) {
        const NcclGpuTensor x(DType::kF32, 5, [](int64_t) { return 1; });
        const auto graph =
            CudaGraph::Capture(stream, [&] { return comm.AllReduceSum(x).Wait().status(); });
        ASSERT_TRUE(graph.ok()) << graph.status();
        for (int step = 0; step < 3; ++step) ASSERT_TRUE(graph->Launch(stream).ok());
        ExpectElements(comm, stream, x, [](int64_t) { return 27; });
      });
}

// Each launch has another order of all that no event orders.
TEST_P(NcclGraphTest, GroupsWaitForEachOtherInEveryOrder) {
  RunOnNcclGpus({.timeout = std::chrono::minutes(1)}, {4},
                [](Communicator& comm, CudaStream stream) {
                  const auto half = comm.Split(comm.rank() % 2, 0, "half");
                  ASSERT_TRUE(half.ok()) << half.status();
                  const NcclGpuTensor rank(DType::kI32, 4, [&](int64_t) { return comm.rank(); });
                  const NcclGpuTensor x(DType::kI32, 4), y(DType::kI32, 4), z(DType::kI32, 4);
                  const auto copy = [&](const Tensor& from, const Tensor& to) {
                    return CopyOnDevice(to.raw(), from.raw(), from.num_bytes(), stream);
                  };
                  const auto graph = CudaGraph::Capture(stream, [&]() -> absl::Status {
                    STRAKE_RETURN_IF_ERROR(copy(rank, x));
                    auto of_half = (*half)->AllReduceSum(x);
                    STRAKE_RETURN_IF_ERROR(copy(rank, y));
                    auto of_all = comm.AllReduceSum(y);
                    STRAKE_RETURN_IF_ERROR(of_half.Wait().status());
                    STRAKE_RETURN_IF_ERROR(copy(x, z));
                    STRAKE_RETURN_IF_ERROR(comm.AllReduceSum(z).Wait().status());
                    return of_all.Wait().status();
                  });
                  ASSERT_TRUE(graph.ok()) << graph.status();
                  for (int step = 0; step < 6; ++step) {
                    ASSERT_TRUE(graph->Launch(stream).ok());
                    ExpectElements(comm, stream, x,
                                   [&](int64_t) { return comm.rank() % 2 == 0 ? 0 + 2 : 1 + 3; });
                    ExpectElements(comm, stream, y, [](int64_t) { return 0 + 1 + 2 + 3; });
                    ExpectElements(comm, stream, z, [](int64_t) { return 2 * (0 + 1 + 2 + 3); });
                  }
                });
}

}  // namespace
}  // namespace strake::testing
