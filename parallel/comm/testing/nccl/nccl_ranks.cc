#include "parallel/comm/testing/nccl/nccl_ranks.h"

#include <complex>
#include <memory>
#include <thread>
#include <utility>

#include "core/base/file_descriptor.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"

namespace strake::testing {
namespace {

// A rank's part of the GPU that all ranks share. Freeing memory waits for the whole GPU, and so for
// other ranks: a rank's memory lives until all ranks have ended.
struct RankGpu {
  static constexpr size_t kBytes = 1 << 18;
  CudaMemory memory = CudaMemory::Allocate(kBytes).value();
  CudaOwnStream stream = CudaOwnStream::Create().value();
  size_t used_bytes = 0;
};
thread_local RankGpu* rank_gpu = nullptr;

}  // namespace

void RunOnNccl(int size, const CommunicatorOptions& options,
               const std::function<void(Communicator&)>& body) {
  NcclRendezvous rendezvous{.size = size};
  auto listeners = ListenAt(rendezvous.host, &rendezvous.port);
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  const auto shared = std::make_shared<std::vector<FileDescriptor>>(*std::move(listeners));
  std::vector<std::unique_ptr<Communicator>> worlds(size);
  const auto on_every_rank = [size](const std::function<void(int)>& rank_body) {
    std::vector<std::thread> threads;
    const int num_gpus = CudaDeviceCount().value();
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        EXPECT_TRUE(SetCudaDevice(rank % num_gpus).ok());
        rank_body(rank);
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  on_every_rank([&](int rank) {
    NcclRendezvous mine = rendezvous;
    mine.rank = rank;
    if (rank == 0) mine.listeners = shared;
    auto world = CreateNcclWorld(mine, options, ContractNccl());
    ASSERT_TRUE(world.ok()) << world.status();
    worlds[rank] = std::move(*world);
  });
  on_every_rank([&](int rank) { body(*worlds[rank]); });
  on_every_rank([&](int rank) { worlds[rank] = nullptr; });
  EXPECT_THAT(NcclMisuses(), ::testing::IsEmpty());
}

NcclGpuTensor::NcclGpuTensor(DType dtype, int64_t n)
    : tensor_(static_cast<char*>(rank_gpu->memory.data()) + rank_gpu->used_bytes, dtype, {n},
              Device::kCuda) {
  rank_gpu->used_bytes += (tensor_.num_bytes() + 255) / 256 * 256;
  EXPECT_LE(rank_gpu->used_bytes, RankGpu::kBytes);
}

NcclGpuTensor::NcclGpuTensor(DType dtype, int64_t n, const std::function<double(int64_t)>& value)
    : NcclGpuTensor(dtype, n) {
  TestTensor host(dtype, {n});
  for (int64_t i = 0; i < n; ++i) SetElement(host, i, value(i));
  EXPECT_TRUE(
      CopyToDevice(tensor_.raw(), host->raw(), host->num_bytes(), rank_gpu->stream.get()).ok());
}

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

void RunOnNcclGpus(const CommunicatorOptions& options, const std::vector<int>& sizes,
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

}  // namespace strake::testing
