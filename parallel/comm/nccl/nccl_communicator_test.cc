// Ranks are threads here, each with its own world that meets the others over TCP. NCCL is a fake,
// and all share the emulated GPU.
#include "parallel/comm/nccl/nccl_communicator.h"

#include <algorithm>
#include <chrono>
#include <complex>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/cuda/cuda_runtime.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/testing/communicator_suite.h"
#include "parallel/comm/testing/fake_nccl.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Worlds, by rank, which end together.
void RunOnNccl(int size, const CommunicatorOptions& options,
               const std::function<void(Communicator&)>& body) {
  NcclRendezvous rendezvous{.size = size};
  auto listeners = ListenAt(rendezvous.host, &rendezvous.port);
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  const auto shared = std::make_shared<std::vector<FileDescriptor>>(*std::move(listeners));
  std::vector<std::unique_ptr<Communicator>> worlds(size);
  const auto on_every_rank = [size](const std::function<void(int)>& rank_body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank) threads.emplace_back(rank_body, rank);
    for (std::thread& thread : threads) thread.join();
  };
  on_every_rank([&](int rank) {
    NcclRendezvous mine = rendezvous;
    mine.rank = rank;
    if (rank == 0) mine.listeners = shared;
    auto world = CreateNcclWorld(mine, options, FakeNccl());
    ASSERT_TRUE(world.ok()) << world.status();
    worlds[rank] = std::move(*world);
  });
  on_every_rank([&](int rank) { body(*worlds[rank]); });
  on_every_rank([&](int rank) { worlds[rank] = nullptr; });
}

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

// A rank's part of the GPU that all ranks share. Freeing memory waits for the whole GPU, and so for
// other ranks: a rank's memory lives until all ranks have ended.
struct RankGpu {
  static constexpr size_t kBytes = 1 << 18;
  CudaMemory memory = CudaMemory::Allocate(kBytes).value();
  CudaOwnStream stream = CudaOwnStream::Create().value();
  size_t used_bytes = 0;
};
thread_local RankGpu* rank_gpu = nullptr;

// A tensor on the GPU, filled on the bound stream.
class GpuTensor {
 public:
  GpuTensor(DType dtype, int64_t n)
      : tensor_(static_cast<char*>(rank_gpu->memory.data()) + rank_gpu->used_bytes, dtype, {n},
                Device::kCuda) {
    rank_gpu->used_bytes += (tensor_.num_bytes() + 255) / 256 * 256;
    EXPECT_LE(rank_gpu->used_bytes, RankGpu::kBytes);
  }
  GpuTensor(DType dtype, int64_t n, const std::function<double(int64_t)>& value)
      : GpuTensor(dtype, n) {
    TestTensor host(dtype, {n});
    for (int64_t i = 0; i < n; ++i) SetElement(host, i, value(i));
    EXPECT_TRUE(
        CopyToDevice(tensor_.raw(), host->raw(), host->num_bytes(), rank_gpu->stream.get()).ok());
  }
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)
  const Tensor* operator->() const { return &tensor_; }

 private:
  Tensor tensor_;
};

void ExpectElements(Communicator& comm, CudaStream stream, const Tensor& x,
                    const std::function<double(int64_t)>& value) {
  const absl::Status waited = comm.WaitForStream(stream);
  ASSERT_TRUE(waited.ok()) << waited;
  TestTensor host(x.dtype(), x.shape());
  ASSERT_TRUE(CopyToHost(host->raw(), x.raw(), x.num_bytes(), stream).ok());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    ASSERT_EQ(GetElement(host, i), std::complex<double>(value(i)))
        << "element " << i << " of " << x.ToString() << " on rank " << comm.rank();
  }
}

void OnGpus(const CommunicatorOptions& options, const std::vector<int>& sizes,
            const std::function<void(Communicator&, CudaStream)>& body) {
  for (const int size : sizes) {
    std::vector<RankGpu> gpus(size);
    RunOnNccl(size, options, [&](Communicator& comm) {
      rank_gpu = &gpus[comm.rank()];
      const CudaStream stream = rank_gpu->stream.get();
      comm.BindCudaStream(stream);
      body(comm, stream);
    });
  }
}

class NcclCommunicatorTest : public ::testing::TestWithParam<bool> {
 protected:
  CommunicatorOptions options() const {
    return {.timeout = std::chrono::minutes(1), .check = GetParam()};
  }
};

INSTANTIATE_TEST_SUITE_P(Check, NcclCommunicatorTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Compared" : "Unchecked"; });

TEST_P(NcclCommunicatorTest, Reductions) {
  OnGpus(options(), {1, 2, 3, 4}, [](Communicator& comm, CudaStream stream) {
    const int size = comm.size(), rank = comm.rank();
    const auto mine = [&](int64_t i) { return Value(rank, i); };
    for (const DType dtype : kReduced) {
      for (const int64_t n : {0, 1, 37}) {
        const GpuTensor sum(dtype, n, mine), max(dtype, n, mine);
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
        const GpuTensor x(dtype, total, mine), y(dtype, counts[rank]);
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
  OnGpus(options(), {1, 2, 3, 4}, [](Communicator& comm, CudaStream stream) {
    const int size = comm.size(), rank = comm.rank();
    const auto mine = [&](int64_t i) { return Value(rank, i); };
    for (const DType dtype : {DType::kBf16, DType::kF32, DType::kC128, DType::kU16}) {
      std::vector<int64_t> ragged(size), equal(size, 5);
      for (int r = 0; r < size; ++r) ragged[r] = r % 3 == 1 ? 0 : 3 * r + 2;
      for (const auto& counts : {ragged, equal}) {
        int64_t total = 0;
        for (const int64_t count : counts) total += count;
        const GpuTensor x(dtype, counts[rank], mine), y(dtype, total);
        ASSERT_TRUE(comm.AllGather(x, y, counts).Wait().ok());
        int64_t begin = 0;
        for (int r = 0; r < size; ++r) {
          ExpectElements(comm, stream, y->Rows(begin, begin + counts[r]),
                         [&](int64_t i) { return Value(r, i); });
          begin += counts[r];
        }
      }
      const GpuTensor told(dtype, 9, mine);
      ASSERT_TRUE(comm.Broadcast(told, size - 1).Wait().ok());
      ExpectElements(comm, stream, told, [&](int64_t i) { return Value(size - 1, i); });
      // Rank s has (s + 2 d) % 4 elements for rank d.
      std::vector<int64_t> send(size), recv(size);
      int64_t sent = 0, received = 0;
      for (int r = 0; r < size; ++r) sent += send[r] = (rank + 2 * r) % 4;
      for (int r = 0; r < size; ++r) received += recv[r] = (r + 2 * rank) % 4;
      const GpuTensor from(dtype, sent, [&](int64_t) { return rank + 1; }), to(dtype, received);
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
  OnGpus(options(), {2, 3}, [](Communicator& comm, CudaStream stream) {
    const int size = comm.size(), next = (comm.rank() + 1) % size;
    const int previous = (comm.rank() + size - 1) % size;
    const GpuTensor x(DType::kF32, 7, [&](int64_t i) { return Value(comm.rank(), i); });
    const GpuTensor y(DType::kF32, 7), z(DType::kF32, 7);
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

TEST_P(NcclCommunicatorTest, OrderedWithTheBoundStreamAndWithinASplit) {
  OnGpus(options(), {4}, [](Communicator& comm, CudaStream stream) {
    const auto half = comm.Split(comm.rank() % 2, -comm.rank(), "half");
    ASSERT_TRUE(half.ok()) << half.status();
    EXPECT_EQ((*half)->rank(), 1 - comm.rank() / 2);
    const GpuTensor x(DType::kI32, 4, [&](int64_t) { return comm.rank(); }), y(DType::kI32, 4);
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

TEST(NcclGraphTest, ACapturedStepRunsItsCollectivesAgain) {
  OnGpus({.timeout = std::chrono::minutes(1)}, {3}, [](Communicator& comm, CudaStream stream) {
    const GpuTensor x(DType::kF32, 5, [](int64_t) { return 1; });
    const auto graph =
        CudaGraph::Capture(stream, [&] { return comm.AllReduceSum(x).Wait().status(); });
    ASSERT_TRUE(graph.ok()) << graph.status();
    for (int step = 0; step < 3; ++step) ASSERT_TRUE(graph->Launch(stream).ok());
    ExpectElements(comm, stream, x, [](int64_t) { return 27; });
  });
}

// --- Failures. ---

TEST(NcclFailureTest, ARankThatDoesNotComeIsNamed) {
  OnGpus({.axis = "tp", .timeout = std::chrono::milliseconds(3000)}, {3},
         [](Communicator& comm, CudaStream stream) {
           const GpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
           if (comm.rank() == 1) return;
           ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
           const absl::Status status = comm.WaitForStream(stream);
           EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
           EXPECT_THAT(std::string(status.message()),
                       AllOf(HasSubstr("[cuda_stream, axis tp, rank "),
                             HasSubstr("rank 1 of axis tp did not join within 3000 ms: rank "),
                             HasSubstr("waits in all_reduce_sum #0 of f32[4] at ")));
           // Later calls have the same cause, and the GPU is free.
           EXPECT_THAT(std::string(comm.AllReduceSum(x).Wait().status().message()),
                       HasSubstr("rank 1 of axis tp did not join"));
           EXPECT_TRUE(SynchronizeCudaStream(stream).ok());
         });
}

TEST(NcclFailureTest, AnAbortEndsCollectivesUnderWay) {
  OnGpus({.axis = "dp", .timeout = std::chrono::minutes(1)}, {3},
         [](Communicator& comm, CudaStream stream) {
           if (comm.rank() == 2) return comm.Abort(absl::DataLossError("a torn page"));
           const GpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
           const absl::Status started = comm.AllReduceSum(x).Wait().status();
           CudaEvent event = CudaEvent::Create().value();
           ASSERT_TRUE(event.Record(stream).ok());
           const absl::Status status = started.ok() ? comm.WaitForEvent(event) : started;
           EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
           EXPECT_THAT(std::string(status.message()),
                       HasSubstr("rank 2 of axis dp aborted: a torn page"));
         });
}

TEST(NcclFailureTest, ErrorsThatNcclFindsLaterReachEveryone) {
  OnGpus({.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream stream) {
    const GpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() == 1) {
      const absl::Status status = comm.Barrier();
      EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 of axis world [nccl]"));
      return;
    }
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    SetFakeNcclAsyncError(NcclResult::kRemoteError);
    const absl::Status status = comm.WaitForStream(stream);
    EXPECT_THAT(std::string(status.message()), HasSubstr("failed: a fake error"));
  });
  SetFakeNcclAsyncError(NcclResult::kSuccess);
}

TEST(NcclFailureTest, CallsOnTheGpuAreComparedInTheCheckMode) {
  OnGpus({.axis = "dp", .timeout = std::chrono::minutes(1), .check = true}, {2},
         [](Communicator& comm, CudaStream) {
           const GpuTensor x(DType::kF32, 4 + comm.rank());
           const absl::Status status = comm.AllReduceSum(x).Wait().status();
           EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
           EXPECT_THAT(std::string(status.message()),
                       AllOf(HasSubstr("on axis dp, ranks disagree: rank 0 called all_reduce_sum "
                                       "#0 of f32[4]"),
                             HasSubstr("rank 1 called all_reduce_sum #0 of f32[5]"),
                             HasSubstr("nccl_communicator_test.cc:")));
         });
}

TEST(NcclFailureTest, ADroppedResultFailsTheGroup) {
  OnGpus({.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream) {
    const GpuTensor x(DType::kF32, 4);
    if (comm.rank() == 1) {
      const auto pending = comm.AllReduceSum(x);
      return;
    }
    EXPECT_THAT(std::string(comm.Barrier().message()),
                HasSubstr("rank 1 of axis world dropped all_reduce_sum #0 of f32[4]"));
  });
}

// On the bound stream, each group's last collective follows one of the other group's.
TEST(NcclFailureTest, AnAbortEndsGroupsThatWaitForOneAnother) {
  OnGpus({.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream stream) {
    const auto first = comm.Split(0, 0, "first"), second = comm.Split(0, 0, "second");
    ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
    const GpuTensor x(DType::kF32, 4, [](int64_t) { return 1; });
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

TEST(NcclFailureTest, AGroupThatGoesWaitsForItsCollectivesUntilTheTimeout) {
  OnGpus({.timeout = std::chrono::milliseconds(3000)}, {2}, [](Communicator& comm, CudaStream) {
    auto part = comm.Split(0, comm.rank(), "part");
    ASSERT_TRUE(part.ok()) << part.status();
    if (comm.rank() == 1) return;
    const GpuTensor x(DType::kF32, 4);
    ASSERT_TRUE((*part)->AllReduceSum(x).Wait().ok());
    *part = nullptr;
    EXPECT_THAT(std::string(comm.Barrier().message()),
                HasSubstr("rank 1 of axis part did not join within 3000 ms: rank 0 waits in"));
  });
}

// Otherwise the memory that they use could not be freed.
TEST(NcclFailureTest, AGroupThatGoesAfterAFailureEndsItsCollectives) {
  OnGpus({.timeout = std::chrono::minutes(1)}, {2}, [](Communicator& comm, CudaStream) {
    const auto part = comm.Split(0, comm.rank(), "part");
    ASSERT_TRUE(part.ok()) << part.status();
    const GpuTensor x(DType::kF32, 4);
    if (comm.rank() == 1) const auto dropped = (*part)->AllReduceSum(x);
  });
}

// In a process that starts anew: a fork of this one could hang, since its other threads may hold
// locks.
TEST(NcclDeathTest, SumsOfTypesThatNcclLacks) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  OnGpus({}, {1}, [](Communicator& comm, CudaStream) {
    const GpuTensor x(DType::kU16, 4);
    EXPECT_DEATH((void)comm.AllReduceSum(x), "\\[all_reduce_sum\\] NCCL has no u16");
  });
}

}  // namespace
}  // namespace strake::testing
