#include "core/ops/scale/scale.h"

#include <cmath>
#include <limits>

#include "core/base/dtype.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

TEST(ScaleTest, MultipliesExactlyAndInPlace) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64, DType::kC128}) {
    for (const int64_t rows : {0, 1, 5, 300}) {
      TestTensor x(dtype, {rows, 33}), y(dtype, {rows, 33});
      FillSmallIntegers(x, 1);
      ASSERT_TRUE(Scale(ctx, -0.75, x, y).ok());
      for (int64_t i = 0; i < y->num_elements(); ++i) {
        ASSERT_EQ(GetElement(y, i), -0.75 * GetElement(x, i));
      }
      ASSERT_TRUE(Scale(ctx, -0.75, x, x).ok());
      EXPECT_TRUE(SameBits(x, y));
    }
  }
}

TEST(ScaleTest, TheGradientIsTheSameFunctionOfDy) {
  const TestContext ctx;
  TestTensor x(DType::kC128, {3, 5}), y(DType::kC128, {3, 5}), dy(DType::kC128, {3, 5}),
      dx(DType::kC128, {3, 5}), truth(DType::kF64, {3, 5});
  FillNormal(x, 1);
  FillNormal(dy, 2);
  const auto loss = [&] {
    EXPECT_TRUE(Scale(ctx, 0.22, x, y).ok());
    return WeightedSum(y, dy);
  };
  ComplexStepGradient(x, loss, truth);
  ASSERT_TRUE(Scale(ctx, 0.22, dy, dx).ok());
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(dx, truth), 1e-14);
}

TEST(ScaleTest, RoundsTheProductOnce) {
  const TestContext ctx;
  TestTensor x(DType::kBf16, {33}), y(DType::kBf16, {33});
  for (int i = 0; i < 33; ++i) SetElement(x, i, 129 + i);  // integers of 8 bits
  ASSERT_TRUE(Scale(ctx, 1.5, x, y).ok());
  for (int i = 0; i < 33; ++i) {
    EXPECT_EQ(GetElement(y, i).real(), static_cast<float>(Bf16(1.5f * (129 + i)))) << i;
  }
}

TEST(ScaleTest, NonFiniteInputsShow) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {35}), y(DType::kF32, {35});
  FillNormal(x, 1);
  SetElement(x, 3, std::numeric_limits<double>::quiet_NaN());
  SetElement(x, 34, std::numeric_limits<double>::infinity());
  ASSERT_TRUE(Scale(ctx, 0.5, x, y).ok());
  for (int i = 0; i < 35; ++i) {
    EXPECT_EQ(std::isfinite(GetElement(y, i).real()), i != 3 && i != 34) << i;
  }
}

TEST(ScaleTest, TheSameBitsWithAnyNumberOfThreads) {
  TestTensor x(DType::kF32, {50, 777}), one(DType::kF32, {50, 777}), three(DType::kF32, {50, 777});
  FillNormal(x, 1);
  ASSERT_TRUE(Scale(TestContext(OpSet::kAuto, 1), 0.3, x, one).ok());
  ASSERT_TRUE(Scale(TestContext(OpSet::kAuto, 3), 0.3, x, three).ok());
  EXPECT_TRUE(SameBits(one, three));
}

TEST(ScaleDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), y(DType::kF32, {4, 2});
  EXPECT_DEATH((void)Scale(ctx, 2, x, y), "\\[scale\\] factor 2, x f32\\[2, 4\\], y f32\\[4, 2\\]");
}

}  // namespace
}  // namespace strake
