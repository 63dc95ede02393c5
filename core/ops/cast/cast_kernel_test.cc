// The CUDA kernels of conversions, under the emulator and on a GPU, against the reference, which
// they must equal in every bit.
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/cast/cast_cuda.h"
#include "core/ops/cast/cast_reference.h"
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

// Within a vector, within a block, and beyond, with and without a tail.
constexpr int64_t kSizes[] = {0, 1, 7, 8, 1000, 4096, 4099, 12289};

TEST(CastCudaTest, ToBf16) {
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(size);
      const GuardedBuffer<float> x("x", size, guard_at);
      const GuardedBuffer<Bf16> y("y", size, guard_at);
      std::vector<Bf16> expected(size);
      FillNormal(x, 1);
      reference::Cast(x.data(), size, expected.data());
      ASSERT_EQ(cuda::CastToBf16(nullptr, {.x = x.data(), .size = size, .y = y.data()}),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(y, expected));
    }
  }
}

TEST(CastCudaTest, FromBf16AndAdded) {
  const ScopedRandomCudaOrder order(1);
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(size);
      const GuardedBuffer<Bf16> x("x", size, guard_at);
      const GuardedBuffer<float> y("y", size, guard_at), sum("sum", size, guard_at);
      FillNormal(x, 1);
      FillNormal(sum, 2);
      std::vector<float> expected(size), expected_sum(sum.begin(), sum.end());
      reference::Cast(x.data(), size, expected.data());
      reference::CastAdd(x.data(), size, expected_sum.data());
      ASSERT_EQ(cuda::CastFromBf16(nullptr, {.x = x.data(), .size = size, .y = y.data()}),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(y, expected));
      ASSERT_EQ(cuda::CastAdd(nullptr, {.x = x.data(), .size = size, .y = sum.data()}),
                absl::OkStatus());
      EXPECT_TRUE(SameBits(sum, expected_sum));
    }
  }
}

}  // namespace
}  // namespace strake
