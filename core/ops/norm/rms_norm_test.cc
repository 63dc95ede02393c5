#include "core/ops/norm/rms_norm.h"

#include <cmath>

#include "core/ops/residual_add/residual_add.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr double kEps = 1e-5;

TEST(RmsNormTest, ClosedForm) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {1, 4}), w(DType::kF32, {4}), y(DType::kF32, {1, 4}),
      rstd(DType::kF32, {1});
  // The mean square of (2, -2, 2, -2) is 4; with eps 12 the root is 4.
  for (int i = 0; i < 4; ++i) x->data<float>()[i] = i % 2 == 0 ? 2 : -2;
  for (int i = 0; i < 4; ++i) w->data<float>()[i] = i + 1;
  ASSERT_TRUE(RmsNormForward(ctx, x, {}, w, 12, 0, {}, y, rstd).ok());
  EXPECT_EQ(rstd->data<float>()[0], 0.25f);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(y->data<float>()[i], 0.5f * (i + 1) * (i % 2 == 0 ? 1 : -1));
  }
  ASSERT_TRUE(RmsNormForward(ctx, x, {}, w, 12, 1, {}, y, rstd).ok());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(y->data<float>()[i], 0.5f * (i + 2) * (i % 2 == 0 ? 1 : -1));
  }
}

struct Gradients {
  Gradients(DType dtype, int64_t rows, int64_t columns, double weight_offset = 0)
      : offset(weight_offset),
        x(dtype, {rows, columns}),
        w(dtype, {columns}),
        dy(dtype, {rows, columns}),
        y(dtype, {rows, columns}),
        rstd(dtype, {rows}),
        dx(dtype, {rows, columns}),
        dw(dtype, {columns}) {
    FillNormal(x, 1);
    FillNormal(w, 2);
    FillNormal(dy, 3);
    FillConstant(dw, 0);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(RmsNormForward(ctx, x, {}, w, kEps, offset, {}, y, rstd).ok());
    ASSERT_TRUE(RmsNormBackward(ctx, dy, x, w, offset, rstd, false, dx, dw).ok());
  }
  double offset;
  TestTensor x, w, dy, y, rstd, dx, dw;
};

class RmsNormOffsetTest : public ::testing::TestWithParam<double> {};

TEST_P(RmsNormOffsetTest, GradientsByComplexStep) {
  const TestContext ctx;
  Gradients g(DType::kC128, 3, 7, GetParam());
  g.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(RmsNormForward(ctx, g.x, {}, g.w, kEps, g.offset, {}, g.y, g.rstd).ok());
    return WeightedSum(g.y, g.dy);
  };
  TestTensor dx(DType::kF64, {3, 7}), dw(DType::kF64, {7});
  ComplexStepGradient(g.x, loss, dx);
  ComplexStepGradient(g.w, loss, dw);
  EXPECT_GT(MaxAbs(dx), 0.1);
  EXPECT_GT(MaxAbs(dw), 0.1);
  EXPECT_LT(RelativeError(g.dx, dx), 1e-13);
  EXPECT_LT(RelativeError(g.dw, dw), 1e-13);
}

TEST_P(RmsNormOffsetTest, F32FollowsF64) {
  for (const auto& [rows, columns] : {std::pair{1, 3}, {5, 3}, {17, 100}, {64, 768}, {0, 8}}) {
    const TestContext ctx;
    Gradients f32(DType::kF32, rows, columns, GetParam());
    Gradients f64(DType::kF64, rows, columns, GetParam());
    f32.Run(ctx);
    f64.Run(ctx);
    // The error of a sum of n terms of random sign is about sqrt(n) roundings of its largest
    // partial sums; the six elementwise operations of each term add theirs. The factor 4 is for the
    // tail.
    const auto bound = [](double n) { return 4 * (std::sqrt(n) + 6) * 0x1p-24; };
    EXPECT_LE(RelativeError(f32.y, f64.y), bound(columns)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dx, f64.dx), bound(columns)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dw, f64.dw), bound(rows)) << rows << " x " << columns;
  }
}

INSTANTIATE_TEST_SUITE_P(, RmsNormOffsetTest, ::testing::Values(0, 1));

TEST(RmsNormTest, AccumulatesAndWorksInPlace) {
  const TestContext ctx;
  Gradients g(DType::kF32, 4, 8);
  g.Run(ctx);
  TestTensor sum(DType::kF32, {4, 8}), dw(DType::kF32, {8});
  FillConstant(sum, 3);
  FillConstant(dw, 0);
  ASSERT_TRUE(RmsNormBackward(ctx, g.dy, g.x, g.w, 0, g.rstd, true, sum, dw).ok());
  EXPECT_TRUE(SameBits(dw, g.dw));
  for (int i = 0; i < 32; ++i) {
    EXPECT_FLOAT_EQ(sum->data<float>()[i], 3 + g.dx->data<float>()[i]);
  }
  FillConstant(dw, 0);
  ASSERT_TRUE(RmsNormBackward(ctx, g.dy, g.x, g.w, 0, g.rstd, false, g.dy, dw).ok());
  EXPECT_TRUE(SameBits(g.dy, g.dx));
  EXPECT_TRUE(SameBits(dw, g.dw));
}

TEST(RmsNormTest, TheSameBitsWithAnyNumberOfThreads) {
  Gradients one(DType::kF32, 33, 768), three(DType::kF32, 33, 768);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dx, three.dx));
  EXPECT_TRUE(SameBits(one.dw, three.dw));
}

TEST(RmsNormTest, TheResidualIsAddedFirst) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    Gradients g(dtype, 33, 100);
    TestTensor x(dtype, {33, 100}), residual(dtype, {33, 100}), y(dtype, {33, 100}),
        rstd(dtype, {33});
    FillNormal(x, 4);
    FillNormal(residual, 5);
    // The norm of the sum, which is g.x.
    ASSERT_TRUE(ResidualAddForward(ctx, x, residual, g.x).ok());
    ASSERT_TRUE(RmsNormForward(ctx, g.x, {}, g.w, kEps, g.offset, {}, g.y, g.rstd).ok());
    ASSERT_TRUE(RmsNormForward(ctx, x, residual, g.w, kEps, 0, g.dx, y, rstd).ok());
    EXPECT_TRUE(SameBits(g.dx, g.x));
    EXPECT_TRUE(SameBits(y, g.y));
    EXPECT_TRUE(SameBits(rstd, g.rstd));
    // In place: the sum replaces x, y replaces the residual.
    ASSERT_TRUE(RmsNormForward(ctx, x, residual, g.w, kEps, 0, x, residual, rstd).ok());
    EXPECT_TRUE(SameBits(x, g.x));
    EXPECT_TRUE(SameBits(residual, g.y));
  }
}

TEST(RmsNormDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), w(DType::kF32, {3}), y(DType::kF32, {2, 4}),
      rstd(DType::kF32, {2});
  EXPECT_DEATH((void)RmsNormForward(ctx, x, {}, w, kEps, 0, {}, y, rstd),
               "\\[rms_norm\\] x f32\\[2, 4\\].*weight f32\\[3\\]");
  TestTensor c(DType::kF32, {4});
  EXPECT_DEATH((void)RmsNormForward(ctx, x, x, c, kEps, 0, {}, y, rstd),
               "residual f32\\[2, 4\\], sum undefined");
  EXPECT_DEATH((void)RmsNormForward(ctx, x, c, c, kEps, 0, x, y, rstd), "residual f32\\[4\\]");
}

}  // namespace
}  // namespace strake
