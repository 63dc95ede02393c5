#include "core/ops/softcap/softcap.h"

#include <cmath>
#include <limits>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillNormal;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr double kCap = 2;

TEST(SoftcapTest, FollowsTheFormula) {
  const TestContext ctx;
  TestTensor x(DType::kF64, {100}), y(DType::kF64, {100});
  FillNormal(x, 1, 3);
  ASSERT_TRUE(Softcap(ctx, kCap, x, y).ok());
  for (int i = 0; i < 100; ++i) {
    EXPECT_DOUBLE_EQ(GetElement(y, i).real(), kCap * std::tanh(GetElement(x, i).real() / kCap));
  }
}

TEST(SoftcapTest, TheSlopeByComplexStepIsAFunctionOfTheResult) {
  const TestContext ctx;
  TestTensor x(DType::kC128, {5, 7}), y(DType::kC128, {5, 7}), dy(DType::kC128, {5, 7}),
      dx(DType::kF64, {5, 7}), truth(DType::kF64, {5, 7});
  FillNormal(x, 1, 3);
  FillNormal(dy, 2);
  const auto loss = [&] {
    EXPECT_TRUE(Softcap(ctx, kCap, x, y).ok());
    return WeightedSum(y, dy);
  };
  loss();
  for (int i = 0; i < 35; ++i) {
    const double ratio = GetElement(y, i).real() / kCap;
    SetElement(dx, i, GetElement(dy, i).real() * (1 - ratio * ratio));
  }
  ComplexStepGradient(x, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(dx, truth), 1e-14);
}

// Relative to each value, also near 0: tanh and two products, of 4 and 1 units each, and the
// rounding of 1 / c.
TEST(SoftcapTest, F32FollowsF64AtEverySize) {
  const TestContext ctx;
  for (const double size : {1e-30, 1e-6, 0.01, 1., 3., 100.}) {
    TestTensor x(DType::kF32, {67}), wide(DType::kF64, {67}), y(DType::kF32, {67}),
        truth(DType::kF64, {67});
    FillNormal(x, 1, size);
    testing::CopyConvert(x, wide);
    ASSERT_TRUE(Softcap(ctx, 3, x, y).ok());
    ASSERT_TRUE(Softcap(ctx, 3, wide, truth).ok());
    for (int i = 0; i < 67; ++i) {
      EXPECT_NEAR(GetElement(y, i).real() / GetElement(truth, i).real(), 1, 7 * 0x1p-23) << size;
    }
  }
}

TEST(SoftcapTest, LargeInputsAreTheCapAndNanShows) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const double large : {60., 1e10, 3e38, kInfinity}) {
      TestTensor x(dtype, {35}), y(dtype, {35});
      for (int i = 0; i < 35; ++i) SetElement(x, i, i % 2 == 0 ? large : -large);
      SetElement(x, 5, std::numeric_limits<double>::quiet_NaN());
      ASSERT_TRUE(Softcap(ctx, kCap, x, y).ok());
      for (int i = 0; i < 35; ++i) {
        const double got = GetElement(y, i).real();
        if (i == 5) {
          EXPECT_TRUE(std::isnan(got));
        } else {
          EXPECT_EQ(got, i % 2 == 0 ? kCap : -kCap) << large;
        }
      }
    }
  }
}

TEST(SoftcapTest, InPlaceAndWithAnyNumberOfThreadsTheSameBits) {
  TestTensor x(DType::kF32, {50, 777}), one(DType::kF32, {50, 777});
  FillNormal(x, 1, 3);
  ASSERT_TRUE(Softcap(TestContext(OpSet::kAuto, 1), kCap, x, one).ok());
  ASSERT_TRUE(Softcap(TestContext(OpSet::kAuto, 3), kCap, x, x).ok());
  EXPECT_TRUE(SameBits(one, x));
}

TEST(SoftcapDeathTest, WrongArgumentsAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), y(DType::kF32, {4, 2});
  EXPECT_DEATH((void)Softcap(ctx, 2, x, y),
               "\\[softcap\\] cap 2, x f32\\[2, 4\\], y f32\\[4, 2\\]");
  EXPECT_DEATH((void)Softcap(ctx, 0, x, x), "\\[softcap\\] cap 0, x");
}

}  // namespace
}  // namespace strake
