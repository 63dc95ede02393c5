// Compares Philox on CUDA, under the emulator and on a GPU, with the CPU's, bit by bit.
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/philox/philox_cuda.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::GuardAt;
using testing::GuardedBuffer;
using testing::SameBits;

template <typename T>
class PhiloxCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(PhiloxCudaTest, Types);

template <typename T>
std::vector<T> OnTheCpu(const Philox& random, uint64_t first, int64_t size) {
  std::vector<T> values(size);
  for (int64_t i = 0; i < size; ++i) {
    values[i] = T(static_cast<float>(random.Bits(first + i) >> 40) * 0x1p-23f - 1);
  }
  return values;
}

// Aligned for vectors and unaligned, ragged, and across the counter's lower 32 bits.
TYPED_TEST(PhiloxCudaTest, HasTheCpusBits) {
  const Philox random(7, RandomUse::kTesting, 3);
  for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
    for (const int64_t size : {0, 1, 7, 8, 1000, 2048, 4099}) {
      for (const uint64_t first : {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 32) - 600}) {
        const GuardedBuffer<TypeParam> x("x", size, guard_at);
        ASSERT_EQ(cuda::PhiloxUniform<TypeParam>(
                      nullptr, {.random = random, .first = first, .size = size, .x = x.data()}),
                  absl::OkStatus());
        EXPECT_TRUE(SameBits(x, OnTheCpu<TypeParam>(random, first, size))) << size << " " << first;
      }
    }
  }
}

TYPED_TEST(PhiloxCudaTest, FillsTheInterval) {
  constexpr int64_t kSize = 4096;
  const GuardedBuffer<TypeParam> x("x", kSize);
  ASSERT_EQ(
      cuda::PhiloxUniform<TypeParam>(
          nullptr,
          {.random = Philox(1, RandomUse::kTesting), .first = 0, .size = kSize, .x = x.data()}),
      absl::OkStatus());
  double sum = 0, squares = 0;
  for (const TypeParam value : x) {
    const double v = static_cast<float>(value);
    ASSERT_GE(v, -1);
    ASSERT_LE(v, 1);
    sum += v;
    squares += v * v;
  }
  // Five standard deviations of the means of kSize numbers; that of one number is sqrt(1/3) and
  // sqrt(4/45).
  EXPECT_NEAR(sum / kSize, 0, 5 * 0.578 / 64);
  EXPECT_NEAR(squares / kSize, 1.0 / 3, 5 * 0.299 / 64);
}

}  // namespace
}  // namespace strake
