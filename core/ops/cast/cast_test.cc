#include "core/ops/cast/cast.h"

#include <cmath>
#include <cstdint>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillNormal;
using testing::GetElement;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

TEST(CastTest, RoundsToNearestEvenAndBack) {
  const TestContext ctx;
  for (const int64_t size : {0, 1, 15, 16, 300, 5000}) {
    TestTensor x(DType::kF32, {size}), y(DType::kBf16, {size}), back(DType::kF32, {size});
    FillNormal(x, 1);
    ASSERT_TRUE(Cast(ctx, x, y).ok());
    ASSERT_TRUE(Cast(ctx, y, back).ok());
    for (int64_t i = 0; i < size; ++i) {
      const float expected = static_cast<float>(Bf16(x->data<float>()[i]));
      ASSERT_EQ(static_cast<float>(y->data<Bf16>()[i]), expected) << i;
      ASSERT_EQ(back->data<float>()[i], expected) << i;
      // Half a unit in the last of 8 places is the largest error.
      ASSERT_LE(std::abs(expected - x->data<float>()[i]), 0x1p-8 * std::abs(x->data<float>()[i]));
    }
  }
  // 1 + 2^-8 is halfway between 1, which is even, and 1 + 2^-7; so is 1 + 3 * 2^-8.
  TestTensor ties(DType::kF32, {2}), rounded(DType::kBf16, {2});
  ties->data<float>()[0] = 1 + 0x1p-8F;
  ties->data<float>()[1] = 1 + 3 * 0x1p-8F;
  ASSERT_TRUE(Cast(ctx, ties, rounded).ok());
  EXPECT_EQ(static_cast<float>(rounded->data<Bf16>()[0]), 1);
  EXPECT_EQ(static_cast<float>(rounded->data<Bf16>()[1]), 1 + 0x1p-6);
}

TEST(CastTest, AddsInF32) {
  const TestContext ctx;
  constexpr int64_t kSize = 777;
  TestTensor x(DType::kBf16, {kSize}), y(DType::kF32, {kSize}), sum(DType::kF32, {kSize});
  FillNormal(x, 1);
  FillNormal(y, 2);
  for (int64_t i = 0; i < kSize; ++i) {
    sum->data<float>()[i] = y->data<float>()[i] + static_cast<float>(x->data<Bf16>()[i]);
  }
  ASSERT_TRUE(CastAdd(ctx, x, y).ok());
  EXPECT_TRUE(SameBits(y, sum));
}

TEST(CastTest, TheSameBitsWithAnyNumberOfThreads) {
  TestTensor x(DType::kF32, {50, 777}), one(DType::kBf16, {50, 777}),
      three(DType::kBf16, {50, 777});
  FillNormal(x, 1);
  ASSERT_TRUE(Cast(TestContext(OpSet::kAuto, 1), x, one).ok());
  ASSERT_TRUE(Cast(TestContext(OpSet::kAuto, 3), x, three).ok());
  EXPECT_TRUE(SameBits(one, three));
}

TEST(CastTest, OfF64IsExact) {
  const TestContext ctx(OpSet::kReference, 1);
  TestTensor x(DType::kF64, {33}), y(DType::kF64, {33});
  FillNormal(x, 1);
  ASSERT_TRUE(Cast(ctx, x, y).ok());
  EXPECT_TRUE(SameBits(y, x));
  ASSERT_TRUE(CastAdd(ctx, x, y).ok());
  for (int64_t i = 0; i < 33; ++i) EXPECT_EQ(GetElement(y, i), 2.0 * GetElement(x, i));
}

TEST(CastTest, NonFiniteInputsShow) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {3}), y(DType::kBf16, {3});
  x->data<float>()[0] = std::nanf("");
  x->data<float>()[1] = INFINITY;
  x->data<float>()[2] = 3.4e38F;  // rounds to infinity
  ASSERT_TRUE(Cast(ctx, x, y).ok());
  EXPECT_TRUE(std::isnan(static_cast<float>(y->data<Bf16>()[0])));
  EXPECT_TRUE(std::isinf(static_cast<float>(y->data<Bf16>()[1])));
  EXPECT_TRUE(std::isinf(static_cast<float>(y->data<Bf16>()[2])));
}

TEST(CastDeathTest, WrongOperandsAreNamed) {
  const TestContext ctx;
  TestTensor f32(DType::kF32, {4}), bf16(DType::kBf16, {4}), longer(DType::kBf16, {5});
  EXPECT_DEATH((void)Cast(ctx, f32, longer), "\\[cast\\] x f32\\[4\\], y bf16\\[5\\]");
  EXPECT_DEATH((void)Cast(ctx, f32, f32), "\\[cast\\] x f32\\[4\\], y f32\\[4\\]");
  EXPECT_DEATH((void)CastAdd(ctx, f32, bf16), "y bf16\\[4\\], added");
}

}  // namespace
}  // namespace strake
