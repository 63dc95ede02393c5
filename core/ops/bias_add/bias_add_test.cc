#include "core/ops/bias_add/bias_add.h"

#include <utility>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

// Sums of at most 100 integers up to 8 are exact in f32.
TEST(BiasAddTest, ExactOnSmallIntegers) {
  const TestContext ctx;
  for (const auto& [rows, columns] :
       {std::pair{1, 1}, {3, 5}, {0, 4}, {4, 0}, {100, 33}, {17, 768}}) {
    TestTensor x(DType::kF32, {rows, columns}), bias(DType::kF32, {columns}),
        y(DType::kF32, {rows, columns}), dbias(DType::kF32, {columns});
    FillSmallIntegers(x, 1);
    FillSmallIntegers(bias, 2);
    FillConstant(dbias, 5);
    ASSERT_TRUE(BiasAddForward(ctx, x, bias, y).ok());
    ASSERT_TRUE(BiasAddBackward(ctx, x, dbias).ok());
    for (int64_t c = 0; c < columns; ++c) {
      float sum = 5;
      for (int64_t n = 0; n < rows; ++n) {
        const float value = x->data<float>()[n * columns + c];
        ASSERT_EQ(y->data<float>()[n * columns + c], value + bias->data<float>()[c]);
        sum += value;
      }
      ASSERT_EQ(dbias->data<float>()[c], sum) << rows << " x " << columns << ", column " << c;
    }
    ASSERT_TRUE(BiasAddForward(ctx, x, bias, x).ok());
    EXPECT_TRUE(SameBits(x, y));
  }
}

TEST(BiasAddTest, GradientsByComplexStep) {
  const TestContext ctx;
  TestTensor x(DType::kC128, {4, 3}), bias(DType::kC128, {3}), y(DType::kC128, {4, 3}),
      dy(DType::kC128, {4, 3}), dbias(DType::kC128, {3});
  FillNormal(x, 1);
  FillNormal(bias, 2);
  FillNormal(dy, 3);
  FillConstant(dbias, 0);
  ASSERT_TRUE(BiasAddBackward(ctx, dy, dbias).ok());
  const auto loss = [&] {
    EXPECT_TRUE(BiasAddForward(ctx, x, bias, y).ok());
    return WeightedSum(y, dy);
  };
  TestTensor dx_step(DType::kF64, {4, 3}), dbias_step(DType::kF64, {3});
  ComplexStepGradient(x, loss, dx_step);
  ComplexStepGradient(bias, loss, dbias_step);
  EXPECT_GT(MaxAbs(dbias_step), 0.1);
  EXPECT_LT(RelativeError(dy, dx_step), 1e-14);
  EXPECT_LT(RelativeError(dbias, dbias_step), 1e-14);
}

TEST(BiasAddTest, TheSameBitsWithAnyNumberOfThreads) {
  TestTensor dy(DType::kF32, {65, 777}), one(DType::kF32, {777}), three(DType::kF32, {777});
  FillNormal(dy, 1);
  FillConstant(one, 0);
  FillConstant(three, 0);
  ASSERT_TRUE(BiasAddBackward(TestContext(OpSet::kAuto, 1), dy, one).ok());
  ASSERT_TRUE(BiasAddBackward(TestContext(OpSet::kAuto, 3), dy, three).ok());
  EXPECT_GT(MaxAbs(one), 1);
  EXPECT_TRUE(SameBits(one, three));
}

TEST(BiasAddDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), bias(DType::kF32, {3});
  EXPECT_DEATH((void)BiasAddForward(ctx, x, bias, x),
               "\\[bias_add\\] x f32\\[2, 4\\], bias f32\\[3\\]");
  EXPECT_DEATH((void)BiasAddBackward(ctx, x, bias), "\\[bias_add\\].*f32\\[3\\]");
}

}  // namespace
}  // namespace strake
