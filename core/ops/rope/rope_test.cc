#include "core/ops/rope/rope.h"

#include <cmath>
#include <complex>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::CopyConvert;
using testing::FillNormal;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

TEST(RopeTest, FrequenciesOfThePaper) {
  TestTensor f(DType::kF64, {4});
  RopeFrequencies(RopeConfig(), 8, f);
  const double expected[] = {1, 0.1, 0.01, 0.001};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(f->data<double>()[i], expected[i], 1e-16);
}

TEST(RopeTest, ScalingStretchesLongWavelengths) {
  // theta = 2^16 and D = 8: frequencies 1, 2^-4, 2^-8, 2^-12, wavelengths 2 pi 2^(4 i). Within
  // 2^10 pi positions that is 512, 32, 2 and 1/8 rotations.
  RopeWavelengthScaling scaling;
  scaling.original_positions = 3217;  // 1024 pi, to 4e-6
  TestTensor f(DType::kF64, {4});
  RopeFrequencies({.theta = 65536, .scaling = scaling}, 8, f);
  EXPECT_DOUBLE_EQ(f->data<double>()[0], 1);
  EXPECT_DOUBLE_EQ(f->data<double>()[1], 0x1p-4);
  // A third of the way from 1 rotation to 4: (1 - 1/3) f / 8 + f / 3 = 5/12 f.
  EXPECT_NEAR(f->data<double>()[2], 5.0 / 12 * 0x1p-8, 1e-5 * 0x1p-8);
  EXPECT_DOUBLE_EQ(f->data<double>()[3], 0x1p-12 / 8);
}

TEST(RopeTest, TableHoldsCosinesAndSines) {
  TestTensor table(DType::kF64, {3, 4});
  RopeTable({.theta = 100}, table);
  for (int p = 0; p < 3; ++p) {
    const double* row = table->data<double>() + 4 * p;
    EXPECT_DOUBLE_EQ(row[0], std::cos(p));
    EXPECT_DOUBLE_EQ(row[1], std::cos(0.1 * p));
    EXPECT_DOUBLE_EQ(row[2], std::sin(p));
    EXPECT_DOUBLE_EQ(row[3], std::sin(0.1 * p));
  }
}

// Sequences of 6 tokens with 3 heads, of which 2 are rotated.
constexpr int64_t kSeqLen = 6, kHeads = 2, kAllHeads = 3;

struct Rope {
  Rope(DType dtype, int64_t head_dim, int64_t sequences = 2)
      : head_dim(head_dim),
        table(DType::kF64, {32, head_dim}),
        x(dtype, {sequences * kSeqLen, kAllHeads * head_dim}),
        y(dtype, {sequences * kSeqLen, kAllHeads * head_dim}) {
    RopeTable({}, table);
    FillNormal(x, 1);
  }
  void Forward(const Context& ctx, int64_t position_offset = 0) {
    CopyConvert(x, y);
    ASSERT_TRUE(RopeForward(ctx, table, kHeads, kSeqLen, position_offset, y).ok());
  }
  int64_t head_dim;
  TestTensor table, x, y;
};

TEST(RopeTest, RotatesPairsAsComplexNumbers) {
  for (const int64_t head_dim : {2, 6, 64}) {
    Rope rope(DType::kF64, head_dim);
    rope.Forward(TestContext(), 3);
    const int64_t half = head_dim / 2;
    for (int64_t n = 0; n < 2 * kSeqLen; ++n) {
      for (int64_t h = 0; h < kAllHeads; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const int64_t at = (n * kAllHeads + h) * head_dim + i;
          const double angle = (3 + n % kSeqLen) * std::pow(10000, -2.0 * i / head_dim);
          const std::complex<double> turn = std::polar(1.0, h < kHeads ? angle : 0);
          const std::complex<double> pair(GetElement(rope.x, at).real(),
                                          GetElement(rope.x, at + half).real());
          const std::complex<double> got(GetElement(rope.y, at).real(),
                                         GetElement(rope.y, at + half).real());
          EXPECT_LT(std::abs(got - pair * turn), 1e-14);
        }
      }
    }
  }
}

TEST(RopeTest, BackwardIsTheTransposeByComplexStep) {
  const TestContext ctx;
  Rope rope(DType::kC128, 6);
  TestTensor dy(DType::kC128, rope.y->shape()), dx(DType::kC128, rope.y->shape()),
      expected(DType::kF64, rope.y->shape());
  FillNormal(dy, 2);
  CopyConvert(dy, dx);
  ASSERT_TRUE(RopeBackward(ctx, rope.table, kHeads, kSeqLen, dx).ok());
  ComplexStepGradient(
      rope.x,
      [&] {
        rope.Forward(ctx);
        return WeightedSum(rope.y, dy);
      },
      expected);
  EXPECT_GT(MaxAbs(expected), 0.1);
  EXPECT_LT(RelativeError(dx, expected), 1e-14);
}

TEST(RopeTest, BackwardUndoesForwardAndNormsStay) {
  const TestContext ctx;
  Rope rope(DType::kF64, 10);
  rope.Forward(ctx);
  const auto squared_norm = [](const Tensor& x) { return WeightedSum(x, x).real(); };
  TestTensor x(DType::kC128, rope.x->shape()), y(DType::kC128, rope.x->shape());
  CopyConvert(rope.x, x);
  CopyConvert(rope.y, y);
  EXPECT_GT(RelativeError(y, x), 0.1);
  EXPECT_NEAR(squared_norm(y), squared_norm(x), 1e-13 * squared_norm(x));
  ASSERT_TRUE(RopeBackward(ctx, rope.table, kHeads, kSeqLen, rope.y).ok());
  EXPECT_LT(RelativeError(rope.y, rope.x), 1e-15 * 8);
}

TEST(RopeTest, PositionOffsetContinuesASequence) {
  const TestContext ctx;
  Rope whole(DType::kF32, 16, 1), pieces(DType::kF32, 16, 1);
  whole.Forward(ctx);
  for (int64_t n = 0; n < kSeqLen; ++n) {
    CopyConvert(pieces.x->Rows(n, n + 1), pieces.y->Rows(n, n + 1));
    ASSERT_TRUE(RopeForward(ctx, pieces.table, kHeads, 1, n, pieces.y->Rows(n, n + 1)).ok());
  }
  EXPECT_TRUE(SameBits(whole.y, pieces.y));
}

TEST(RopeTest, F32FollowsF64) {
  for (const int64_t head_dim : {2, 6, 64, 128}) {
    for (const int64_t sequences : {0, 1, 5}) {
      Rope f32(DType::kF32, head_dim, sequences), f64(DType::kF64, head_dim, sequences);
      f32.Forward(TestContext(), 7);
      f64.Forward(TestContext(), 7);
      // Roundings of x, the angle, two products and their sum, for pairs up to sqrt(2) longer than
      // their largest element.
      EXPECT_LE(RelativeError(f32.y, f64.y), 5 * std::sqrt(2) * 0x1p-24);
    }
  }
}

TEST(RopeTest, TheSameBitsWithAnyNumberOfThreads) {
  Rope one(DType::kF32, 64, 20), three(DType::kF32, 64, 20);
  one.Forward(TestContext(OpSet::kAuto, 1));
  three.Forward(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
}

TEST(RopeDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Rope rope(DType::kF32, 4);
  EXPECT_DEATH((void)RopeForward(ctx, rope.table, 4, kSeqLen, 0, rope.x),
               "\\[rope\\] x f32\\[12, 12\\], table f64\\[32, 4\\], 4 heads");
  EXPECT_DEATH((void)RopeForward(ctx, rope.table, 2, kSeqLen, 27, rope.x), "from position 27");
  EXPECT_DEATH((void)RopeBackward(ctx, rope.table, 2, 5, rope.x), "sequences of 5");
  TestTensor odd(DType::kF64, {4, 3});
  EXPECT_DEATH(RopeTable({}, odd), "head_dim 3 is odd");
}

}  // namespace
}  // namespace strake
