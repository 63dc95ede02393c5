#include "core/ops/sum/sum.h"

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::GetElement;
using testing::TestContext;
using testing::TestTensor;

TEST(SumTest, AddsToTheTotal) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const TestTensor x(dtype, {100}), none(dtype, {0}), total(DType::kF64, {1});
    for (int i = 0; i < 100; ++i) testing::SetElement(x, i, i);
    FillConstant(total, 50);
    ASSERT_TRUE(AddSum(ctx, x, total).ok());
    EXPECT_EQ(GetElement(total, 0), 5000.);
    ASSERT_TRUE(AddSum(ctx, none, total).ok());
    EXPECT_EQ(GetElement(total, 0), 5000.);
  }
}

// In f32, all terms after the first would be lost.
TEST(SumTest, SumsAreDouble) {
  const TestContext ctx;
  const TestTensor x(DType::kF32, {1000}), total(DType::kF64, {1});
  FillConstant(x, 1);
  x->data<float>()[0] = 0x1p40f;
  FillConstant(total, 0);
  ASSERT_TRUE(AddSum(ctx, x, total).ok());
  EXPECT_EQ(GetElement(total, 0), 0x1p40 + 999);
}

TEST(SumDeathTest, WrongArgumentsAreNamed) {
  const TestContext ctx;
  const TestTensor x(DType::kC128, {3}), total(DType::kF64, {1});
  EXPECT_DEATH((void)AddSum(ctx, x, total), "\\[sum\\] x c128\\[3\\], total f64\\[1\\]");
}

}  // namespace
}  // namespace strake
