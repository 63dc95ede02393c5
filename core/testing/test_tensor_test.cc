#include "core/testing/test_tensor.h"

#include <cmath>

#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

TEST(TestTensorTest, StartsAsNanAndSeesWritesOutside) {
  TestTensor x(DType::kF32, {3});
  EXPECT_TRUE(std::isnan(x->data<float>()[2]));
  EXPECT_NONFATAL_FAILURE(
      {
        TestTensor y(DType::kF32, {3});
        y->data<float>()[3] = 0;
      },
      "red zone of f32[3] overwritten at byte 12");
  EXPECT_NONFATAL_FAILURE(
      {
        TestTensor y(DType::kF32, {3});
        y->data<float>()[-1] = 0;
      },
      "red zone of f32[3] overwritten at byte -4");
}

TEST(RelativeErrorTest, ComparesWithTheLargestElement) {
  TestTensor a(DType::kF32, {3}), b(DType::kF64, {3});
  EXPECT_EQ(RelativeError(a, b), INFINITY);
  FillConstant(a, 0);
  FillConstant(b, 0);
  EXPECT_EQ(RelativeError(a, b), 0);
  SetElement(a, 0, 1);
  EXPECT_EQ(RelativeError(a, b), INFINITY);
  SetElement(b, 1, -4);
  EXPECT_EQ(RelativeError(a, b), 1);
}

TEST(FillTest, TheSameInEveryDtype) {
  TestTensor a(DType::kF32, {100}), b(DType::kC128, {100});
  FillNormal(a, 1);
  FillNormal(b, 1);
  EXPECT_LT(RelativeError(a, b), UnitRoundoff(DType::kF32));
  EXPECT_GT(MaxAbs(a), 1);
  FillSmallIntegers(a, 1, 2);
  EXPECT_EQ(MaxAbs(a), 2);
}

}  // namespace
}  // namespace strake::testing
