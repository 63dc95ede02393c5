// The CUDA kernels of the sum of squares, under the emulator and on a GPU, against the reference.
#include <algorithm>
#include <vector>

#include "core/ops/squared_norm/squared_norm_cuda.h"
#include "core/ops/squared_norm/squared_norm_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;

// Ragged sizes, of one block and more, and with more than one quad per thread: the grid is 1056
// blocks of 256 threads.
constexpr int64_t kSizes[] = {0, 1, 3, 4, 5, 1023, 1024, 1025, 70001};
constexpr int64_t kLarge = 4 * 1056 * 256 + 4099;

double Sum(const float* x, int64_t size) {
  GuardedBuffer<double> sum("sum", 1);
  GuardedBuffer<double> workspace("workspace", cuda::SquaredNormWorkspaceSize(size));
  EXPECT_EQ(cuda::SquaredNormForward(
                nullptr, {.x = x, .size = size, .sum = sum.data(), .workspace = workspace.data()}),
            absl::OkStatus());
  return sum[0];
}

TEST(SquaredNormCudaTest, SumsOfIntegersAreExact) {
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size << ", guard " << static_cast<int>(guard_at));
      const GuardedBuffer<float> x("x", size, guard_at);
      FillSmallIntegers(x, 1);
      EXPECT_EQ(Sum(x.data(), size), reference::SquaredNorm(x.data(), size));
    }
  }
}

TEST(SquaredNormCudaTest, ThreadsOfSeveralQuads) {
  const GuardedBuffer<float> x("x", kLarge, GuardAt::kStart);
  for (int64_t i = 0; i < kLarge; ++i) x[i] = i % 7;
  EXPECT_EQ(Sum(x.data(), kLarge), reference::SquaredNorm(x.data(), kLarge));
}

// In f32, these squares would be infinite, or lost beside the largest.
TEST(SquaredNormCudaTest, SumsAreDouble) {
  const GuardedBuffer<float> x("x", 100, GuardAt::kStart);
  for (int i = 0; i < 100; ++i) x[i] = i == 7 ? 0x1p80f : 0x1p56f;
  EXPECT_EQ(Sum(x.data(), 100), 0x1p160 + 99 * 0x1p112);
}

// Bits depend neither on the address nor on the order of threads.
TEST(SquaredNormCudaTest, TheSameBits) {
  constexpr int64_t kSize = 9999;
  const GuardedBuffer<float> x("x", kSize, GuardAt::kStart), moved("moved", kSize + 1);
  FillNormal(x, 1);
  const double sum = Sum(x.data(), kSize);
  // Each of n terms is rounded, and all are positive: n units at most.
  EXPECT_NEAR(sum, reference::SquaredNorm(x.data(), kSize), kSize * 0x1p-53 * sum);
  for (int shift = 0; shift < 2; ++shift) {
    std::copy(x.begin(), x.end(), moved.begin() + shift);
    EXPECT_EQ(Sum(moved.data() + shift, kSize), sum);
  }
  for (uint64_t seed = 1; seed < 3; ++seed) {
    const ScopedRandomCudaOrder order(seed);
    EXPECT_EQ(Sum(x.data(), kSize), sum);
  }
}

TEST(SquaredNormCudaTest, BackwardIsTheReferences) {
  const GuardedBuffer<double> dsum("dsum", 1);
  dsum[0] = 0.3;
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size << ", guard " << static_cast<int>(guard_at));
      const GuardedBuffer<float> x("x", size, guard_at), dx("dx", size, guard_at);
      FillNormal(x, 1);
      std::vector<float> expected(size);
      reference::SquaredNormBackward(x.data(), dsum[0], size, expected.data());
      ASSERT_EQ(cuda::SquaredNormBackward(
                    nullptr, {.x = x.data(), .dsum = dsum.data(), .size = size, .dx = dx.data()}),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(dx, expected));
      ASSERT_EQ(cuda::SquaredNormBackward(
                    nullptr, {.x = x.data(), .dsum = dsum.data(), .size = size, .dx = x.data()}),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(x, expected));
    }
  }
}

}  // namespace
}  // namespace strake
