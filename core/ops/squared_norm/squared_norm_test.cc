#include "core/ops/squared_norm/squared_norm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/base/exact_sum.h"
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

// The sum of squares, on so many threads.
class SumOfSquares {
 public:
  explicit SumOfSquares(int num_threads = 1) : ctx_(OpSet::kAuto, num_threads) {
    FillConstant(sum_, 0);
  }

  void Add(const Tensor& x) { ASSERT_TRUE(SquaredNormForward(ctx_, x, sum_).ok()); }
  double ToDouble() const { return ExactSumToDouble(sum_->data<int64_t>()); }
  const Tensor& limbs() const { return sum_; }

 private:
  TestContext ctx_;
  TestTensor sum_{DType::kI64, {kExactSumLimbs}};
};

// Integers, whose sums are exact in double in any order. The sizes are around those of lanes, units
// and blocks.
TEST(SquaredNormTest, ExactOnSmallIntegersAndAddsToTheSum) {
  for (const int64_t size : {0, 1, 15, 16, 17, 63, 64, 65, 16383, 16384, 16385, 100000}) {
    for (const DType dtype : {DType::kF32, DType::kF64}) {
      TestTensor x(dtype, {size});
      FillSmallIntegers(x, 1);
      double expected = 0;
      for (int64_t i = 0; i < size; ++i) {
        const double value = GetElement(x, i).real();
        expected += value * value;
      }
      SumOfSquares sum(3);
      sum.Add(x);
      EXPECT_EQ(sum.ToDouble(), expected) << size;
      sum.Add(x);
      EXPECT_EQ(sum.ToDouble(), 2 * expected) << size;
    }
  }
}

// One large square, and small ones in other units that a sum in double would lose one by one.
TEST(SquaredNormTest, UnitsAreAddedExactly) {
  constexpr int64_t kSize = 64 + (1 << 16);
  TestTensor x(DType::kF32, {kSize});
  FillConstant(x, 0x1p-20);
  for (int i = 0; i < 64; ++i) SetElement(x, i, i == 5 ? 0x1p20 : 0);
  SumOfSquares sum;
  sum.Add(x);
  EXPECT_EQ(sum.ToDouble(), 0x1p40);
  SetElement(x, 5, 0);
  SetElement(x, 6, 0x1p12);
  SumOfSquares both;
  both.Add(x);
  EXPECT_EQ(both.ToDouble(), 0x1p24 + 0x1p-24);
}

// The unit's own sum is in double: 2^-60 is lost beside 1, wherever it is in the unit.
TEST(SquaredNormTest, AUnitHas64Elements) {
  for (int64_t i = 1; i < 129; ++i) {
    TestTensor x(DType::kF32, {129});
    FillConstant(x, 0);
    SetElement(x, 0, 1);
    SetElement(x, i, 0x1p-30);
    SetElement(x, 128, 0x1p-10);
    SumOfSquares sum, parts;
    sum.Add(x);
    int64_t expected[kExactSumLimbs] = {};
    AddToExactSum(1, expected);
    AddToExactSum(0x1p-20, expected);
    if (i >= 64 && i < 128) AddToExactSum(0x1p-60, expected);
    CarryExactSum(expected);
    EXPECT_TRUE(SameBits(sum.limbs(), Tensor(expected, DType::kI64, {kExactSumLimbs}))) << i;
  }
}

TEST(SquaredNormTest, TheLeastAndTheLargestNumbers) {
  TestTensor x(DType::kF32, {64 * 3});
  FillConstant(x, 0x1p-149);
  SumOfSquares least;
  least.Add(x);
  EXPECT_EQ(least.ToDouble(), 192 * 0x1p-298);
  FillConstant(x, 0x1.fffffep127);
  SumOfSquares largest;
  largest.Add(x);
  EXPECT_EQ(largest.ToDouble(), 192 * (0x1.fffffep127 * 0x1.fffffep127));
  SetElement(x, 100, -INFINITY);
  SumOfSquares infinite;
  infinite.Add(x);
  EXPECT_EQ(infinite.ToDouble(), INFINITY);
  SetElement(x, 0, NAN);
  infinite.Add(x);
  EXPECT_TRUE(std::isnan(infinite.ToDouble()));
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
        FillConstant(sum, 0);
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
  TestTensor x(DType::kF32, {kSize + 1});
  FillNormal(x, 1);
  SumOfSquares one, three(3), shifted;
  one.Add(x->Rows(0, kSize));
  three.Add(x->Rows(0, kSize));
  EXPECT_GT(one.ToDouble(), kSize / 2);
  EXPECT_TRUE(SameBits(one.limbs(), three.limbs()));
  for (int64_t i = kSize; i > 0; --i) SetElement(x, i, GetElement(x, i - 1));
  shifted.Add(x->Rows(1, kSize + 1));
  EXPECT_TRUE(SameBits(one.limbs(), shifted.limbs()));
}

TEST(SquaredNormTest, TheSameBitsInAnyPartsOfWholeUnitsInAnyOrder) {
  constexpr int64_t kSize = 64 * 700 + 11;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    TestTensor x(dtype, {kSize});
    FillNormal(x, 1, 1e-4);
    SumOfSquares whole(3);
    whole.Add(x);
    for (const int64_t units : {1, 2, 7, 256, 300, 699}) {
      std::vector<Tensor> parts;
      for (int64_t at = 0; at < kSize; at += 64 * units) {
        parts.push_back(x->Rows(at, std::min(at + 64 * units, kSize)));
      }
      SumOfSquares sum;
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) sum.Add(*part);
      EXPECT_TRUE(SameBits(sum.limbs(), whole.limbs())) << units;
    }
    // Any other part has other units.
    SumOfSquares other;
    other.Add(x->Rows(0, 63));
    other.Add(x->Rows(63, kSize));
    EXPECT_FALSE(SameBits(other.limbs(), whole.limbs()));
  }
}

TEST(SquaredNormDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2}), sum(DType::kF32, {1}), two(DType::kI64, {2}),
      dsum(DType::kF64, {1});
  EXPECT_DEATH((void)SquaredNormForward(ctx, x, dsum),
               "\\[squared_norm\\] x f32\\[2\\], sum f64\\[1\\]");
  EXPECT_DEATH((void)SquaredNormForward(ctx, x, two), "i64\\[2\\]");
  EXPECT_DEATH((void)SquaredNormBackward(ctx, x, dsum, sum), "dx f32\\[1\\]");
}

}  // namespace
}  // namespace strake
