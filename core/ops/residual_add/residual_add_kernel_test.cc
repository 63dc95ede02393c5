// The CUDA kernel of the residual connection, under the emulator and on a GPU, against the sum in
// f32, which it must equal in every bit.
#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/ops/residual_add/residual_add_cuda.h"
#include "core/ops/residual_add/residual_add_reference.h"
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

template <typename T>
class ResidualAddCudaTest : public ::testing::Test {};

using Types = ::testing::Types<float, Bf16>;
TYPED_TEST_SUITE(ResidualAddCudaTest, Types);

// Within a vector, within a block (512 vectors of 4 or 8), and beyond, with and without a tail.
constexpr int64_t kSizes[] = {0, 1, 7, 8, 1000, 2048, 4096, 4099, 12289};

template <typename T>
struct Problem {
  Problem(int64_t size, GuardAt guard_at)
      : x("x", size, guard_at),
        residual("residual", size, guard_at),
        y("y", size, guard_at),
        expected(size) {
    FillNormal(x, 1);
    FillNormal(residual, 2);
    const std::vector<float> a(x.begin(), x.end()), b(residual.begin(), residual.end());
    std::vector<float> sum(size);
    reference::ResidualAddForward(a.data(), b.data(), size, sum.data());
    for (int64_t i = 0; i < size; ++i) expected[i] = T(sum[i]);
  }

  GuardedBuffer<T> x, residual, y;
  std::vector<T> expected;
};

TYPED_TEST(ResidualAddCudaTest, TheSameBitsAsTheReference) {
  for (const int64_t size : kSizes) {
    for (const GuardAt guard_at : {GuardAt::kEnd, GuardAt::kStart}) {
      SCOPED_TRACE(size);
      Problem<TypeParam> p(size, guard_at);
      ASSERT_EQ(
          cuda::ResidualAddForward<TypeParam>(
              nullptr,
              {.x = p.x.data(), .residual = p.residual.data(), .size = size, .y = p.y.data()}),
          absl::OkStatus());
      EXPECT_TRUE(SameBits(p.y, p.expected));
    }
  }
}

TYPED_TEST(ResidualAddCudaTest, OverEitherInputAndInAnyOrder) {
  const ScopedRandomCudaOrder order(1);
  for (const bool over_x : {true, false}) {
    Problem<TypeParam> p(4099, GuardAt::kStart);
    const auto& y = over_x ? p.x : p.residual;
    ASSERT_EQ(
        cuda::ResidualAddForward<TypeParam>(
            nullptr, {.x = p.x.data(), .residual = p.residual.data(), .size = 4099, .y = y.data()}),
        absl::OkStatus());
    EXPECT_TRUE(SameBits(y, p.expected));
  }
}

TYPED_TEST(ResidualAddCudaTest, AnyTensorMayBeUnaligned) {
  for (int unaligned = 0; unaligned < 3; ++unaligned) {
    Problem<TypeParam> p(65, GuardAt::kStart);
    const auto at = [&](const auto& buffer, int i) { return buffer.data() + (i == unaligned); };
    ASSERT_EQ(
        cuda::ResidualAddForward<TypeParam>(
            nullptr, {.x = at(p.x, 0), .residual = at(p.residual, 1), .size = 64, .y = at(p.y, 2)}),
        absl::OkStatus());
    for (int i = 0; i < 64; ++i) {
      const TypeParam sum(static_cast<float>(at(p.x, 0)[i]) +
                          static_cast<float>(at(p.residual, 1)[i]));
      EXPECT_EQ(static_cast<float>(at(p.y, 2)[i]), static_cast<float>(sum)) << unaligned;
    }
  }
}

}  // namespace
}  // namespace strake
