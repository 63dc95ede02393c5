#include "core/ops/residual_add/residual_add.h"

#include <cmath>

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
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

TEST(ResidualAddTest, AddsExactlyAndInPlace) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    for (const int64_t rows : {0, 1, 5, 300}) {
      TestTensor x(dtype, {rows, 33}), residual(dtype, {rows, 33}), y(dtype, {rows, 33});
      FillSmallIntegers(x, 1);
      FillSmallIntegers(residual, 2);
      ASSERT_TRUE(ResidualAddForward(ctx, x, residual, y).ok());
      for (int64_t i = 0; i < y->num_elements(); ++i) {
        ASSERT_EQ(GetElement(y, i), GetElement(x, i) + GetElement(residual, i));
      }
      ASSERT_TRUE(ResidualAddForward(ctx, x, residual, residual).ok());
      EXPECT_TRUE(SameBits(residual, y));
    }
  }
}

TEST(ResidualAddTest, TheGradientIsDy) {
  const TestContext ctx;
  TestTensor x(DType::kC128, {3, 5}), residual(DType::kC128, {3, 5}), y(DType::kC128, {3, 5}),
      dy(DType::kC128, {3, 5}), dx(DType::kF64, {3, 5});
  FillNormal(x, 1);
  FillNormal(residual, 2);
  FillNormal(dy, 3);
  const auto loss = [&] {
    EXPECT_TRUE(ResidualAddForward(ctx, x, residual, y).ok());
    return WeightedSum(y, dy);
  };
  for (const TestTensor* input : {&x, &residual}) {
    ComplexStepGradient(*input, loss, dx);
    EXPECT_LT(RelativeError(dx, dy), 1e-14);
  }
}

TEST(ResidualAddTest, TheSameBitsWithAnyNumberOfThreads) {
  TestTensor x(DType::kF32, {50, 777}), residual(DType::kF32, {50, 777}),
      one(DType::kF32, {50, 777}), three(DType::kF32, {50, 777});
  FillNormal(x, 1);
  FillNormal(residual, 2);
  ASSERT_TRUE(ResidualAddForward(TestContext(OpSet::kAuto, 1), x, residual, one).ok());
  ASSERT_TRUE(ResidualAddForward(TestContext(OpSet::kAuto, 3), x, residual, three).ok());
  EXPECT_TRUE(SameBits(one, three));
}

TEST(ResidualAddTest, NonFiniteInputsShow) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2}), residual(DType::kF32, {2}), y(DType::kF32, {2});
  x->data<float>()[0] = std::nanf("");
  x->data<float>()[1] = 1;
  residual->data<float>()[0] = 0;
  residual->data<float>()[1] = INFINITY;
  ASSERT_TRUE(ResidualAddForward(ctx, x, residual, y).ok());
  EXPECT_TRUE(std::isnan(y->data<float>()[0]));
  EXPECT_TRUE(std::isinf(y->data<float>()[1]));
}

TEST(ResidualAddDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), residual(DType::kF32, {4, 2});
  EXPECT_DEATH((void)ResidualAddForward(ctx, x, residual, x),
               "\\[residual_add\\] x f32\\[2, 4\\], residual f32\\[4, 2\\], y f32\\[2, 4\\]");
}

}  // namespace
}  // namespace strake
