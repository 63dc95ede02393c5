#include "core/testing/cuda_emulator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "core/cuda/portable.h"
#include "core/testing/guarded_buffer.h"
#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using testing::CudaDim3;
using testing::GuardAt;
using testing::GuardedBuffer;
using ::testing::HasSubstr;
using testing::ScopedRandomCudaOrder;

// Runs `launch` in ascending order and in three random orders; each must report all of `parts`.
template <typename LaunchT, typename... Parts>
void ExpectFault(const LaunchT& launch, const Parts&... parts) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    std::optional<ScopedRandomCudaOrder> order;
    if (seed > 0) order.emplace(seed);
    const absl::Status status = launch();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << "seed " << seed;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(parts)...)) << "seed " << seed;
  }
}

// y[b, :] = x[b, :] * a sum over the row, of blockDim.x numbers. Uses barriers, shuffles and both
// kinds of shared memory.
__global__ void RowSumKernel(const float* x, int columns, float* y) {
  __shared__ Shared<float, kMaxBlockWarps> sums;
  auto row = DynamicShared<float>();
  const float* from = x + int64_t{blockIdx.x} * columns;
  for (int c = threadIdx.x; c < columns; c += blockDim.x) row[c] = from[c];
  __syncthreads();
  float sum = 0;
  for (int c = columns - 1 - threadIdx.x; c >= 0; c -= blockDim.x) sum += row[c];
  sum = BlockSum(sum, sums);
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    y[int64_t{blockIdx.x} * columns + c] = row[c] * sum;
  }
}

TEST(CudaEmulatorTest, RunsAKernelInEveryOrderWithTheSameBits) {
  const int rows = 7, columns = 1000, threads = 96;
  GuardedBuffer<float> x("x", rows * columns), y("y", rows * columns);
  for (int i = 0; i < x.size(); ++i) x[i] = std::sin(i);
  std::vector<float> first;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::optional<ScopedRandomCudaOrder> order;
    if (seed > 0) order.emplace(seed);
    std::fill(y.begin(), y.end(), NAN);
    ASSERT_EQ(Launch<RowSumKernel>(nullptr, rows, threads, columns * sizeof(float), x.data(),
                                   columns, y.data()),
              absl::OkStatus());
    if (seed == 0) first.assign(y.begin(), y.end());
    EXPECT_EQ(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)), 0);
  }
  for (int n = 0; n < rows; ++n) {
    double sum = 0;
    for (int c = 0; c < columns; ++c) sum += x[n * columns + c];
    // At most 11 additions per thread and 10 in the trees, of at most 1000 numbers below 1.
    for (int c = 0; c < columns; ++c) {
      EXPECT_NEAR(first[n * columns + c], x[n * columns + c] * sum, 21 * 1000 * 0x1p-24);
    }
  }
}

__global__ void IndicesKernel(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

TEST(CudaEmulatorTest, RunsEveryThreadOfThreeDimensionsOnce) {
  GuardedBuffer<int> out("out", 2 * 3 * 4 * 5 * 6 * 7);
  std::fill(out.begin(), out.end(), 0);
  const ScopedRandomCudaOrder order(1);
  ASSERT_EQ(Launch<IndicesKernel>(nullptr, dim3(2, 3, 4), dim3(5, 6, 7), 0, out.data()),
            absl::OkStatus());
  for (int i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], i / 210 * 1000 + i % 210);
}

__global__ void WarpKernel(int* out) {
  const int lane = threadIdx.x;
  int* const row = out + lane * 8;
  row[0] = __shfl_down_sync(kWholeWarp, lane, 3);
  row[1] = __shfl_xor_sync(kWholeWarp, lane, 5);
  row[2] = __shfl_sync(kWholeWarp, lane, 7);
  row[3] = __shfl_sync(kWholeWarp, lane, 9, 8);
  row[4] = __ballot_sync(kWholeWarp, lane % 2);
  row[5] = __any_sync(kWholeWarp, lane == 3);
  row[6] = __all_sync(kWholeWarp, lane != 3);
  if (lane < 4) row[7] = __shfl_xor_sync(0xfu, lane * 10, 1);
}

TEST(CudaEmulatorTest, WarpOperations) {
  GuardedBuffer<int> out("out", 32 * 8);
  const ScopedRandomCudaOrder order(2);
  ASSERT_EQ(Launch<WarpKernel>(nullptr, 1, 32, 0, out.data()), absl::OkStatus());
  for (int lane = 0; lane < 32; ++lane) {
    const int* row = &out[lane * 8];
    EXPECT_EQ(row[0], lane < 29 ? lane + 3 : lane);
    EXPECT_EQ(row[1], lane ^ 5);
    EXPECT_EQ(row[2], 7);
    EXPECT_EQ(row[3], lane / 8 * 8 + 1);
    EXPECT_EQ(row[4], static_cast<int>(0xaaaaaaaa));
    EXPECT_EQ(row[5], 1);
    EXPECT_EQ(row[6], 0);
    EXPECT_EQ(row[7], lane < 4 ? (lane ^ 1) * 10 : -1);
  }
}

// A warp passes values through shared memory, with __syncwarp alone.
__global__ void WarpHandoverKernel(bool synchronize, int* out) {
  __shared__ Shared<int, 64> values;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  values[threadIdx.x] = threadIdx.x;
  if (synchronize) __syncwarp();
  out[threadIdx.x] = values[warp * kWarpSize + (lane + 1) % kWarpSize];
}

TEST(CudaEmulatorTest, SyncWarpOrdersTheWarpsSharedMemory) {
  GuardedBuffer<int> out("out", 64);
  const ScopedRandomCudaOrder order(3);
  ASSERT_EQ(Launch<WarpHandoverKernel>(nullptr, 2, 64, 0, true, out.data()), absl::OkStatus());
  for (int i = 0; i < 64; ++i) EXPECT_EQ(out[i], i / 32 * 32 + (i + 1) % 32);
}

TEST(CudaEmulatorFaultTest, MissingSyncWarp) {
  GuardedBuffer<int> out("out", 64);
  const auto launch = [&] {
    return Launch<WarpHandoverKernel>(nullptr, 1, 64, 0, false, out.data());
  };
  const absl::Status status = launch();
  // In ascending order, lane 0 reads an element that lane 1 has not written yet.
  EXPECT_THAT(std::string(status.message()), HasSubstr("which no thread of the block wrote"));
  ExpectFault(launch, "WarpHandoverKernel", "block (0, 0, 0)", "reads byte", "cuda_emulator_test");
}

// Writes an element, and after a barrier reads its neighbour's. Without the `second` barrier, the
// next turn may overwrite what has not been read yet.
__global__ void TurnsKernel(bool first, bool second, int* out) {
  __shared__ Shared<int, 128> values;
  for (int turn = 0; turn < 2; ++turn) {
    values[threadIdx.x] = threadIdx.x + turn;
    if (first) __syncthreads();
    out[threadIdx.x] = values[(threadIdx.x + 127) % 128];
    if (second) __syncthreads();
  }
}

TEST(CudaEmulatorFaultTest, MissingBarrier) {
  GuardedBuffer<int> out("out", 128);
  const auto launch = [&](bool first, bool second) {
    return Launch<TurnsKernel>(nullptr, 1, 128, 0, first, second, out.data());
  };
  const ScopedRandomCudaOrder order(4);
  EXPECT_EQ(launch(true, true), absl::OkStatus());
  ExpectFault([&] { return launch(false, true); }, "TurnsKernel", "thread (", "reads byte",
              "of the 512 bytes of shared memory declared at ", "cuda_emulator_test.cc:");
  ExpectFault([&] { return launch(true, false); }, "TurnsKernel", "which thread number",
              "with no barrier between");
}

__global__ void CopyKernel(const float* x, int64_t first, int64_t n, float* y) {
  const int64_t i = first + int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i];
}

TEST(CudaEmulatorFaultTest, GlobalIndexOutOfBounds) {
  GuardedBuffer<float> x("x", 100), y("y", 100), front("front", 100, GuardAt::kStart);
  std::fill(x.begin(), x.end(), 1);
  const auto launch = [](const float* from, int64_t first, int64_t n, float* to) {
    return Launch<CopyKernel>(nullptr, 4, 32, 0, from, first, n, to);
  };
  EXPECT_EQ(launch(x.data(), 0, 100, y.data()), absl::OkStatus());
  EXPECT_EQ(y[99], 1);
  GuardedBuffer<float> large("large", 101);
  ExpectFault([&] { return launch(x.data(), 0, 101, large.data()); }, "CopyKernel",
              "block (3, 0, 0), thread (4, 0, 0)", "0 bytes past the end of `x` (400 bytes)");
  ExpectFault([&] { return launch(large.data(), 0, 101, y.data()); },
              "block (3, 0, 0), thread (4, 0, 0)", "0 bytes past the end of `y` (400 bytes)");
  ExpectFault([&] { return launch(x.data(), -1, 0, front.data()); },
              "block (0, 0, 0), thread (0, 0, 0)", "of `");
  const auto* nowhere = reinterpret_cast<const float*>(64);
  ExpectFault([&] { return launch(nowhere, 0, 1, y.data()); }, "thread (0, 0, 0)",
              "address 0x40, in no buffer");
}

TEST(CudaEmulatorFaultTest, ARedZoneThatChanged) {
  EXPECT_NONFATAL_FAILURE(
      {
        GuardedBuffer<float> y("y", 3, GuardAt::kStart);
        y[3] = 0;
      },
      "the red zone was written 0 bytes past the end of `y` (12 bytes)");
}

__global__ void SharedIndexKernel(int index, bool write, float* out) {
  __shared__ Shared<float, 33> values;
  values[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x != 5) return;
  if (write) {
    values[index] = 2;
  } else {
    out[0] = values[index];
  }
}

TEST(CudaEmulatorFaultTest, SharedIndexOutOfBoundsOrNotWritten) {
  GuardedBuffer<float> out("out", 1);
  const auto launch = [&](int index, bool write) {
    return Launch<SharedIndexKernel>(nullptr, 1, 32, 0, index, write, out.data());
  };
  EXPECT_EQ(launch(31, false), absl::OkStatus());
  ExpectFault([&] { return launch(33, false); }, "SharedIndexKernel", "thread (5, 0, 0)",
              "reads 4 bytes out of bounds at byte 132 of the 132 bytes of shared memory");
  ExpectFault([&] { return launch(33, true); }, "thread (5, 0, 0)", "writes 4 bytes out of bounds");
  ExpectFault([&] { return launch(-1, true); }, "thread (5, 0, 0)", "writes 4 bytes out of bounds");
  // Written by the previous launch, but not by this one.
  EXPECT_EQ(launch(32, true), absl::OkStatus());
  ExpectFault([&] { return launch(32, false); }, "thread (5, 0, 0)",
              "reads byte 128 of the 132 bytes", "which no thread of the block wrote");
}

__global__ void DynamicIndexKernel(int count, float* out) {
  auto values = DynamicShared<float>();
  for (int i = 0; i < count; ++i) values[i] = i;
  out[0] = LoadVec<4>(values + 4).at[3];
}

TEST(CudaEmulatorFaultTest, DynamicSharedMemory) {
  GuardedBuffer<float> out("out", 1);
  const auto launch = [&](int count) {
    return Launch<DynamicIndexKernel>(nullptr, 1, 1, 32, count, out.data());
  };
  EXPECT_EQ(launch(8), absl::OkStatus());
  EXPECT_EQ(out[0], 7);
  ExpectFault([&] { return launch(7); }, "byte 28 of the 32 bytes of dynamic shared memory",
              "which no thread of the block wrote");
  ExpectFault([&] { return launch(9); }, "writes 4 bytes out of bounds at byte 32 of the 32 bytes");
}

enum class Divergence { kNone, kExit, kOtherBarrier, kShuffle };

__global__ void DivergentKernel(Divergence divergence, float* out) {
  const bool odd = threadIdx.x % 2 == 1;
  float value = threadIdx.x;
  if (odd && divergence == Divergence::kExit) return;
  if (odd && divergence == Divergence::kOtherBarrier) {
    __syncthreads();
  } else if (odd && divergence == Divergence::kShuffle) {
    value = __shfl_down_sync(kWholeWarp, value, 1);
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = value;
}

TEST(CudaEmulatorFaultTest, DivergentBarrier) {
  GuardedBuffer<float> out("out", 64);
  const auto launch = [&](Divergence divergence) {
    return Launch<DivergentKernel>(nullptr, 1, 64, 0, divergence, out.data());
  };
  EXPECT_EQ(launch(Divergence::kNone), absl::OkStatus());
  ExpectFault([&] { return launch(Divergence::kExit); }, "DivergentKernel", "waits forever",
              "32 of 64 threads in __syncthreads at core/testing/cuda_emulator_test.cc:",
              "32 of 64 threads exited, the first (1, 0, 0)");
  ExpectFault([&] { return launch(Divergence::kOtherBarrier); },
              "meets others in another __syncthreads: 32 of 64 threads in __syncthreads at "
              "core/testing/cuda_emulator_test.cc:",
              "; 32 of 64 threads in __syncthreads at core/testing/cuda_emulator_test.cc:");
  ExpectFault([&] { return launch(Divergence::kShuffle); }, "waits forever",
              "32 of 64 threads in __syncthreads at",
              "32 of 64 threads in __shfl_down_sync with mask 0xffffffff at", "first (1, 0, 0)");
}

enum class WarpFault { kNone, kNotInMask, kSourceNotInMask, kExited, kOtherMask };

__global__ void WarpFaultKernel(WarpFault fault, int* out) {
  const int lane = threadIdx.x % kWarpSize;
  unsigned mask = kWholeWarp;
  if (fault == WarpFault::kNotInMask) mask = 0xfffffffeu;
  if (fault == WarpFault::kSourceNotInMask) mask = 0x0000ffffu;
  if (fault == WarpFault::kOtherMask && lane == 3) mask = 0x0000ffffu;
  if (fault == WarpFault::kSourceNotInMask && lane >= 16) return;
  if (fault == WarpFault::kExited && lane == 9) return;
  out[threadIdx.x] = __shfl_down_sync(mask, lane, 1);
}

TEST(CudaEmulatorFaultTest, WrongWarpMask) {
  GuardedBuffer<int> out("out", 32);
  const auto launch = [&](WarpFault fault, int threads) {
    return Launch<WarpFaultKernel>(nullptr, 1, threads, 0, fault, out.data());
  };
  EXPECT_EQ(launch(WarpFault::kNone, 32), absl::OkStatus());
  ExpectFault([&] { return launch(WarpFault::kNotInMask, 32); }, "WarpFaultKernel",
              "thread (0, 0, 0)", "__shfl_down_sync with mask 0xfffffffe at core/testing/",
              "its own lane is not in the mask");
  ExpectFault([&] { return launch(WarpFault::kSourceNotInMask, 32); },
              "lane 15 reads lane 16, which is not in the mask");
  ExpectFault([&] { return launch(WarpFault::kExited, 32); }, "WarpFaultKernel", "exited");
  ExpectFault([&] { return launch(WarpFault::kOtherMask, 32); }, "waits forever",
              "31 of 32 threads in __shfl_down_sync with mask 0xffffffff at",
              "1 of 32 threads in __shfl_down_sync with mask 0xffff at", "first (3, 0, 0)");
  ExpectFault([&] { return launch(WarpFault::kNone, 20); }, "__shfl_down_sync with mask 0xffffffff",
              "the block has no lane 31 in this warp");
}

template <typename T, int kWidth>
__global__ void VecCopyKernel(const T* x, T* y) {
  StoreVec(y, LoadVec<kWidth>(x));
}

TEST(CudaEmulatorFaultTest, MisalignedVector) {
  GuardedBuffer<float> x("x", 8), y("y", 8);
  for (int i = 0; i < 8; ++i) x[i] = i;
  EXPECT_EQ((Launch<VecCopyKernel<float, 8>>(nullptr, 1, 1, 0, x.data(), y.data())),
            absl::OkStatus());
  for (int i = 0; i < 8; ++i) EXPECT_EQ(y[i], i);
  const auto launch = [&](int from, int to) {
    return Launch<VecCopyKernel<float, 4>>(nullptr, 1, 1, 0, x.data() + from, y.data() + to);
  };
  EXPECT_EQ(launch(4, 0), absl::OkStatus());
  ExpectFault([&] { return launch(1, 0); }, "VecCopyKernel<float, 4>",
              "misaligned vector load of 16 bytes at core/testing/cuda_emulator_test.cc:",
              "byte 4 of `x` (32 bytes)");
  ExpectFault([&] { return launch(0, 2); }, "misaligned vector store", "byte 8 of `y`");
}

__global__ void LargeSharedKernel() {
  __shared__ Shared<float, 8 << 10> a;
  __shared__ Shared<float, 8 << 10> b;
  a[0] = 1;
  b[0] = a[0];
}

__global__ void EmptyKernel() {}

TEST(CudaEmulatorFaultTest, LaunchesAboveTheLimits) {
  const auto message = [](CudaDim3 grid, CudaDim3 block, size_t shared) {
    const absl::Status status = Launch<EmptyKernel>(nullptr, grid, block, shared);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(Launch<EmptyKernel>(nullptr, 1, 1024, 227 << 10), absl::OkStatus());
  EXPECT_THAT(message(1, 1025, 0), AllOf(HasSubstr("EmptyKernel"), HasSubstr("(1025, 1, 1)")));
  EXPECT_THAT(message(1, {1, 1, 65}, 0), HasSubstr("(1, 1, 65) threads"));
  EXPECT_THAT(message({1, 65536}, 1, 0), HasSubstr("(1, 65536, 1) blocks"));
  EXPECT_THAT(message(0, 1, 0), HasSubstr("(0, 1, 1) blocks"));
  EXPECT_THAT(message(1, 32, 232449), HasSubstr("232449 bytes of dynamic shared memory"));
  ExpectFault([] { return Launch<LargeSharedKernel>(nullptr, 1, 1, 0); }, "LargeSharedKernel",
              "with 32768 bytes declared at", "uses 65536 bytes of static", "limits are 49152");
}

__global__ void ConvertKernel(const float* x, int n, Bf16* y, float* z) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = FromFloat<Bf16>(x[i]);
  z[i] = ToFloat(y[i]);
}

TEST(CudaEmulatorTest, Bf16HasTheBitsOfTheHosts) {
  const std::vector<float> values = {0, -0.f, 1, 1 + 0x1p-8f, 1 + 0x1p-7f + 0x1p-8f, 3.4e38f, NAN};
  const int n = values.size();
  GuardedBuffer<float> x("x", n), z("z", n);
  GuardedBuffer<Bf16> y("y", n);
  std::copy(values.begin(), values.end(), x.begin());
  ASSERT_EQ(Launch<ConvertKernel>(nullptr, 1, 32, 0, x.data(), n, y.data(), z.data()),
            absl::OkStatus());
  for (int i = 0; i < n - 1; ++i) EXPECT_EQ(y[i].bits, Bf16(values[i]).bits);
  EXPECT_EQ(z[3], 1);  // halfway, rounds to even
  EXPECT_EQ(z[4], 1 + 0x1p-6f);
  EXPECT_TRUE(std::isnan(z[n - 1]));
}

}  // namespace
}  // namespace strake
