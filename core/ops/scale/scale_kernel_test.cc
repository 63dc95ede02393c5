// The CUDA kernel of a multiplication by a number, under the emulator and on a GPU, against the
// reference in f64.
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/scale/scale_cuda.h"
#include "core/ops/scale/scale_reference.h"
#include "core/testing/cuda_emulator.h"
#include "core/testing/guarded_buffer.h"
#include "core/testing/kernel_test_util.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::Copy;
using testing::ExpectEachNear;
using testing::FillNormal;
using testing::GuardAt;
using testing::GuardedBuffer;
using testing::kRoundoff;
using testing::SameBits;
using testing::ScopedRandomCudaOrder;
using testing::ToDouble;

constexpr float kFactor = 0.22f;
constexpr double kBound = 0;  // the product

template <typename T>
class ScaleCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(ScaleCudaTest, Types);

// Sizes within a vector, within a block (512 vectors of 4 or 8), and beyond, with and without a
// tail.
constexpr int64_t kSizes[] = {0, 1, 7, 8, 1000, 2048, 4096, 4099, 12289};

template <typename T>
absl::Status Run(const T* x, int64_t size, T* y) {
  return cuda::Scale<T>(nullptr, {.factor = kFactor, .x = x, .size = size, .y = y});
}

template <typename T>
void ExpectReference(const T* x, int64_t size, const T* y) {
  const std::vector<double> in = ToDouble(x, size);
  std::vector<double> truth(size);
  reference::Scale(double{kFactor}, in.data(), size, truth.data());
  ExpectEachNear(ToDouble(y, size), truth, kBound + kRoundoff<T>, 0, "y");
}

TYPED_TEST(ScaleCudaTest, FollowsTheReference) {
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(size);
      const GuardedBuffer<TypeParam> x("x", size, guard_at), y("y", size, guard_at);
      FillNormal(x, 1, 2);
      ASSERT_EQ(Run(x.data(), size, y.data()), absl::OkStatus());
      ExpectReference(x.data(), size, y.data());
    }
  }
}

TYPED_TEST(ScaleCudaTest, EitherTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 2; ++unaligned) {
    SCOPED_TRACE(unaligned);
    const GuardedBuffer<TypeParam> x("x", 65), y("y", 65);
    FillNormal(x, 1, 2);
    const TypeParam* const from = x.data() + (unaligned == 0);
    TypeParam* const to = y.data() + (unaligned == 1);
    ASSERT_EQ(Run(from, 64, to), absl::OkStatus());
    ExpectReference(from, 64, to);
  }
}

TYPED_TEST(ScaleCudaTest, InPlaceAndInEveryOrderTheSameBits) {
  for (const int64_t size : {4099, 12289}) {
    const GuardedBuffer<TypeParam> x("x", size), y("y", size);
    FillNormal(x, 1, 2);
    ASSERT_EQ(Run(x.data(), size, y.data()), absl::OkStatus());
    const ScopedRandomCudaOrder order(1);
    ASSERT_EQ(Run(x.data(), size, x.data()), absl::OkStatus());
    EXPECT_TRUE(SameBits(x, Copy(y)));
  }
}

}  // namespace
}  // namespace strake
