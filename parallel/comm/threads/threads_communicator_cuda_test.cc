// The communicators of one process with tensors on a GPU.
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/cuda/cuda_runtime.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/single_rank_communicator.h"
#include "parallel/comm/testing/communicator_suite.h"
#include "parallel/comm/testing/rank_tensor.h"
#include "parallel/comm/threads/threads_communicator.h"

namespace strake::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

void RunOnThreads(int size, const CommunicatorOptions& options,
                  const std::function<void(Communicator&)>& body) {
  const auto ranks = CreateThreadsCommunicators(size, options);
  std::vector<std::thread> threads;
  for (const auto& rank : ranks) threads.emplace_back([&] { body(*rank); });
  for (std::thread& thread : threads) thread.join();
}

void RunAlone(int size, const CommunicatorOptions& options,
              const std::function<void(Communicator&)>& body) {
  if (size > 1) return;
  SingleRankCommunicator comm(options);
  body(comm);
}

const CommBackend kThreads = {.name = "Threads", .run = RunOnThreads, .device = Device::kCuda};
const CommBackend kSingle = {.name = "SingleRank", .run = RunAlone, .device = Device::kCuda};

INSTANTIATE_TEST_SUITE_P(Cuda, CommunicatorTest, ::testing::Values(kThreads, kSingle),
                         CommBackendName);
INSTANTIATE_TEST_SUITE_P(Cuda, CommunicatorFailureTest, ::testing::Values(kThreads),
                         CommBackendName);

TEST(CudaCommunicatorTest, TimesItsCollectives) {
  RunOnThreads(2, {}, [](Communicator& comm) {
    std::vector<std::shared_ptr<CollectiveTiming>> timings;
    const ScopedRankDevice device(Device::kCuda, comm);
    constexpr int64_t kN = 300;
    RankTensor x(DType::kF32, {kN}), gathered(DType::kF32, {2 * kN});
    comm.set_timings(&timings);
    auto all = comm.AllGather(x, gathered);
    ASSERT_TRUE(all.Wait().ok());
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    ASSERT_TRUE(comm.Barrier().ok());  // moves nothing on the GPU
    comm.set_timings(nullptr);
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    EXPECT_EQ(timings.size(), 2);
    ASSERT_TRUE(SynchronizeCudaStream(device.stream()).ok());
    const auto seconds = SumSeconds(timings);
    ASSERT_TRUE(seconds.ok()) << seconds.status();
    EXPECT_GT(seconds->total, 0);
    EXPECT_GT(seconds->exposed, 0);
    EXPECT_GE(seconds->hidden, 0);
    // A rounding of each of the two differences and of each sum.
    const double rounding = 6 * 0x1p-53 * (seconds->total + seconds->exposed);
    EXPECT_GE(seconds->hidden, seconds->total - seconds->exposed - rounding);
    EXPECT_LE(seconds->hidden, seconds->total);
  });
}

TEST(CudaCommunicatorTest, StreamsAreOrderedWithoutTheHost) {
  RunOnThreads(4, {}, [](Communicator& comm) {
    const ScopedRankDevice device(Device::kCuda, comm);
    constexpr int64_t kN = 300;
    RankTensor x(DType::kF32, {kN}), y(DType::kF32, {kN}), gathered(DType::kF32, {4 * kN});
    FillOnHost(x, [&](const Tensor& host) { FillConstant(host, comm.rank()); });
    for (int round = 0; round < 3; ++round) {
      auto sum = comm.AllReduceSum(x);
      ASSERT_TRUE(sum.Wait().ok());
      ASSERT_TRUE(CopyOnDevice(y->raw(), x->raw(), x->num_bytes(), device.stream()).ok());
      auto all = comm.AllGather(y, gathered);
      // The others have read x, but may still be gathering y.
      ASSERT_TRUE(SetBytesOnDevice(x->raw(), 0xff, x->num_bytes(), device.stream()).ok());
      ASSERT_TRUE(all.Wait().ok());
      ASSERT_TRUE(SetBytesOnDevice(y->raw(), 0xff, y->num_bytes(), device.stream()).ok());
      const Tensor mine = gathered->Rows(comm.rank() * kN, (comm.rank() + 1) * kN);
      ASSERT_TRUE(CopyOnDevice(x->raw(), mine.raw(), x->num_bytes(), device.stream()).ok());
    }
    const HostImage image(gathered);
    for (int64_t i = 0; i < 4 * kN; ++i) {
      ASSERT_EQ(image->data<float>()[i], 6 * 4 * 4) << "0 + 1 + 2 + 3, summed twice more";
    }
  });
}

TEST(CudaCommunicatorTest, SplitGroupsKeepTheStream) {
  RunOnThreads(2, {}, [](Communicator& comm) {
    const ScopedRankDevice device(Device::kCuda, comm);
    const auto pair = comm.Split(0, -comm.rank(), "pair");
    ASSERT_TRUE(pair.ok());
    RankTensor x(DType::kI64, {1});
    FillOnHost(x, [&](const Tensor& host) { FillConstant(host, comm.rank()); });
    ASSERT_TRUE((*pair)->Broadcast(x, 0).Wait().ok());
    EXPECT_EQ(HostImage(x)->data<int64_t>()[0], 1);
  });
}

TEST(CudaCommunicatorTest, TensorsOnDifferentDevicesDisagree) {
  RunOnThreads(2, {}, [](Communicator& comm) {
    const ScopedRankDevice device(comm.rank() == 0 ? Device::kCpu : Device::kCuda, comm);
    const RankTensor x(DType::kF32, {4});
    const absl::Status status = comm.AllReduceMax(x).Wait().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 called all_reduce_max #0 of "
                                                         "f32[4] at "));
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 called all_reduce_max #0 of "
                                                         "f32[4] at "));
    EXPECT_THAT(std::string(status.message()), EndsWith(", on a GPU"));
  });
}

TEST(CudaCommunicatorTest, ADroppedResultIsSafeOrFailsTheGroup) {
  RunOnThreads(2, {}, [](Communicator& comm) {
    const ScopedRankDevice device(Device::kCuda, comm);
    auto x = std::make_unique<RankTensor>(DType::kF32, Shape{1000});
    if (comm.rank() == 1) {
      { const auto dropped = comm.AllReduceSum(*x); }
      x.reset();
      return;
    }
    const absl::Status status = comm.AllReduceSum(*x).Wait().status();
    // Where rank 1 came second, the sum was already in flight.
    if (!status.ok()) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("dropped all_reduce_sum #0 of f32["));
    }
  });
}

TEST(CudaCommunicatorTest, TooManyRanksForAGpuAreAnError) {
  RunOnThreads(65, {}, [](Communicator& comm) {
    const ScopedRankDevice device(Device::kCuda, comm);
    const RankTensor x(DType::kF32, {1});
    EXPECT_THAT(std::string(comm.AllReduceSum(x).Wait().status().message()),
                HasSubstr("at most 64 ranks can share a GPU"));
  });
}

}  // namespace
}  // namespace strake::testing
