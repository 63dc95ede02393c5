#include "core/ops/squared_norm/squared_norm.h"

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
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

// Integers, whose sums are exact in double in any order. The sizes are around those of lanes and
// blocks.
TEST(SquaredNormTest, ExactOnSmallIntegers) {
  const TestContext ctx(OpSet::kAuto, 3);
  for (const int64_t size : {0, 1, 31, 32, 33, 16383, 16384, 16385, 100000}) {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      TestTensor x(dtype, {size}), sum(DType::kF64, {1});
      FillSmallIntegers(x, 1);
      double expected = 0;
      for (int64_t i = 0; i < size; ++i) {
        const double value = GetElement(x, i).real();
        expected += value * value;
      }
      ASSERT_TRUE(SquaredNormForward(ctx, x, sum).ok());
      EXPECT_EQ(*sum->data<double>(), expected) << size;
    }
  }
}

// One large square, and 2^20 small ones that a sum in f32 would lose one by one.
TEST(SquaredNormTest, SumsInDouble) {
  const TestContext ctx;
  constexpr int64_t kSize = (1 << 20) + 1;
  TestTensor x(DType::kF32, {kSize}), sum(DType::kF64, {1});
  FillConstant(x, 1);
  SetElement(x, 0, 8192);
  ASSERT_TRUE(SquaredNormForward(ctx, x, sum).ok());
  EXPECT_EQ(*sum->data<double>(), 0x1p26 + 0x1p20);
}

TEST(SquaredNormTest, GradientByComplexStep) {
  const TestContext ctx;
  TestTensor x(DType::kC128, {3, 5}), sum(DType::kC128, {1}), dsum(DType::kC128, {1}),
      dx(DType::kC128, {3, 5}), dx_step(DType::kF64, {3, 5});
  FillNormal(x, 1);
  FillConstant(dsum, 0.7);
  ASSERT_TRUE(SquaredNormBackward(ctx, x, dsum, dx).ok());
  ComplexStepGradient(
      x,
      [&] {
        EXPECT_TRUE(SquaredNormForward(ctx, x, sum).ok());
        return 0.7 * GetElement(sum, 0);
      },
      dx_step);
  EXPECT_GT(MaxAbs(dx_step), 0.1);
  EXPECT_LT(RelativeError(dx, dx_step), 1e-14);
}

TEST(SquaredNormTest, BackwardInPlaceInF32) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {20000}), dx(DType::kF32, {20000}), dsum(DType::kF64, {1});
  FillSmallIntegers(x, 1);
  FillConstant(dsum, 0.5);
  ASSERT_TRUE(SquaredNormBackward(ctx, x, dsum, dx).ok());
  EXPECT_TRUE(SameBits(dx, x));
  FillConstant(dsum, 3);
  ASSERT_TRUE(SquaredNormBackward(ctx, x, dsum, x).ok());
  for (int i = 0; i < 20000; ++i) ASSERT_EQ(GetElement(x, i), 6. * GetElement(dx, i));
}

TEST(SquaredNormTest, TheSameBitsWithAnyNumberOfThreadsAndAnyAlignment) {
  constexpr int64_t kSize = 100003;
  TestTensor x(DType::kF32, {kSize + 1}), one(DType::kF64, {1}), three(DType::kF64, {1}),
      shifted(DType::kF64, {1});
  FillNormal(x, 1);
  ASSERT_TRUE(SquaredNormForward(TestContext(OpSet::kAuto, 1), x->Rows(0, kSize), one).ok());
  ASSERT_TRUE(SquaredNormForward(TestContext(OpSet::kAuto, 3), x->Rows(0, kSize), three).ok());
  EXPECT_GT(*one->data<double>(), kSize / 2);
  EXPECT_TRUE(SameBits(one, three));
  for (int64_t i = kSize; i > 0; --i) SetElement(x, i, GetElement(x, i - 1));
  ASSERT_TRUE(SquaredNormForward(TestContext(), x->Rows(1, kSize + 1), shifted).ok());
  EXPECT_TRUE(SameBits(one, shifted));
}

TEST(SquaredNormDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2}), sum(DType::kF32, {1}), two(DType::kF64, {2}),
      dsum(DType::kF64, {1});
  EXPECT_DEATH((void)SquaredNormForward(ctx, x, sum),
               "\\[squared_norm\\] x f32\\[2\\].*f32\\[1\\]");
  EXPECT_DEATH((void)SquaredNormForward(ctx, x, two), "f64\\[2\\]");
  EXPECT_DEATH((void)SquaredNormBackward(ctx, x, dsum, sum), "dx f32\\[1\\]");
}

}  // namespace
}  // namespace strake
