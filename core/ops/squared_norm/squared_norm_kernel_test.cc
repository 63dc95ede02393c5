// The CUDA kernels of the sum of squares, under the emulator and on a GPU, against the reference.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/exact_sum.h"
#include "core/ops/squared_norm/squared_norm_cuda.h"
#include "core/ops/squared_norm/squared_norm_reference.h"
#include "core/ops/squared_norm/squared_norm_unit.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;

// Ragged sizes, of one unit and more, and of one block and more: a block adds 64 units at a time.
constexpr int64_t kSizes[] = {0, 1, 3, 4, 5, 63, 64, 65, 1023, 4095, 4096, 4097, 70001};
// More than a unit for each thread of the grid's 1056 blocks.
constexpr int64_t kLarge = 4096 * 1056 + 4099;

using Limbs = std::vector<int64_t>;

Limbs Sum(const float* x, int64_t size, const Limbs& begin = Limbs(kExactSumLimbs)) {
  GuardedBuffer<int64_t> sum("sum", kExactSumLimbs);
  std::copy(begin.begin(), begin.end(), sum.begin());
  GuardedBuffer<int64_t> workspace("workspace", cuda::SquaredNormWorkspaceSize(size));
  EXPECT_EQ(cuda::SquaredNormForward(
                nullptr, {.x = x, .size = size, .sum = sum.data(), .workspace = workspace.data()}),
            absl::OkStatus());
  return testing::Copy(sum);
}

Limbs SumByReference(const float* x, int64_t size) {
  Limbs limbs(kExactSumLimbs);
  for (int64_t at = 0; at < size; at += kSquaredNormUnit) {
    AddToExactSum(reference::SquaredNormOfUnit(x + at, std::min(kSquaredNormUnit, size - at)),
                  limbs.data());
  }
  CarryExactSum(limbs.data());
  return limbs;
}

TEST(SquaredNormCudaTest, TheBitsOfTheReferenceAddedToTheSum) {
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(::testing::Message() << size << ", guard " << static_cast<int>(guard_at));
      const GuardedBuffer<float> x("x", size, guard_at);
      FillNormal(x, 1);
      const Limbs expected = SumByReference(x.data(), size);
      const Limbs sum = Sum(x.data(), size);
      EXPECT_EQ(sum, expected);
      EXPECT_EQ(ExactSumToDouble(Sum(x.data(), size, sum).data()),
                2 * ExactSumToDouble(expected.data()));
    }
  }
}

TEST(SquaredNormCudaTest, ThreadsOfSeveralUnits) {
  const GuardedBuffer<float> x("x", kLarge, GuardAt::kStart);
  for (int64_t i = 0; i < kLarge; ++i) x[i] = static_cast<float>(i % 7919) * 0x1.3p-9f;
  EXPECT_EQ(Sum(x.data(), kLarge), SumByReference(x.data(), kLarge));
}

// Digits in every limb, and what is not finite.
TEST(SquaredNormCudaTest, EveryMagnitude) {
  const GuardedBuffer<float> x("x", 64 * 280, GuardAt::kStart);
  for (int i = 0; i < 64 * 280; ++i) x[i] = std::ldexp(1 + i % 64 / 64.f, i / 64 - 149);
  EXPECT_EQ(Sum(x.data(), x.size()), SumByReference(x.data(), x.size()));
  x[64 * 140] = INFINITY;
  EXPECT_EQ(ExactSumToDouble(Sum(x.data(), x.size()).data()), INFINITY);
  x[64 * 141] = NAN;
  EXPECT_EQ(Sum(x.data(), x.size()), SumByReference(x.data(), x.size()));
  EXPECT_TRUE(std::isnan(ExactSumToDouble(Sum(x.data(), x.size()).data())));
}

// Bits depend neither on the address nor on the order of threads.
TEST(SquaredNormCudaTest, TheSameBits) {
  constexpr int64_t kSize = 9999;
  const GuardedBuffer<float> x("x", kSize, GuardAt::kStart), moved("moved", kSize + 1);
  FillNormal(x, 1);
  const Limbs sum = Sum(x.data(), kSize);
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
