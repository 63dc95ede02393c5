#include "core/ops/norm/layer_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr double kEps = 1e-5;

struct Gradients {
  Gradients(DType dtype, int64_t rows, int64_t columns)
      : x(dtype, {rows, columns}),
        w(dtype, {columns}),
        b(dtype, {columns}),
        dy(dtype, {rows, columns}),
        y(dtype, {rows, columns}),
        mean(dtype, {rows}),
        rstd(dtype, {rows}),
        dx(dtype, {rows, columns}),
        dw(dtype, {columns}),
        db(dtype, {columns}) {
    FillNormal(x, 1);
    FillNormal(w, 2);
    FillNormal(dy, 3);
    FillNormal(b, 4);
    FillConstant(dw, 0);
    FillConstant(db, 0);
  }
  absl::Status Forward(const Context& ctx) {
    return LayerNormForward(
        ctx, {.x = x, .weight = w, .bias = b, .y = y, .mean = mean, .rstd = rstd}, kEps);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(Forward(ctx).ok());
    ASSERT_TRUE(LayerNormBackward(ctx,
                                  {.dy = dy,
                                   .x = x,
                                   .weight = w,
                                   .mean = mean,
                                   .rstd = rstd,
                                   .dx = dx,
                                   .dweight = dw,
                                   .dbias = db},
                                  false)
                    .ok());
  }
  TestTensor x, w, b, dy, y, mean, rstd, dx, dw, db;
};

TEST(LayerNormTest, ClosedForm) {
  const TestContext ctx;
  Gradients g(DType::kF32, 1, 4);
  // Mean 5 and variance 4; with eps 12 the root is 4.
  for (int i = 0; i < 4; ++i) {
    g.x->data<float>()[i] = i % 2 == 0 ? 7 : 3;
    g.w->data<float>()[i] = i + 1;
    g.b->data<float>()[i] = 10 * i;
  }
  ASSERT_TRUE(
      LayerNormForward(
          ctx, {.x = g.x, .weight = g.w, .bias = g.b, .y = g.y, .mean = g.mean, .rstd = g.rstd}, 12)
          .ok());
  EXPECT_EQ(g.mean->data<float>()[0], 5);
  EXPECT_EQ(g.rstd->data<float>()[0], 0.25f);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(g.y->data<float>()[i], 0.5f * (i + 1) * (i % 2 == 0 ? 1 : -1) + 10 * i);
  }
}

TEST(LayerNormTest, GradientsByComplexStep) {
  const TestContext ctx;
  Gradients g(DType::kC128, 3, 7);
  g.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(g.Forward(ctx).ok());
    return WeightedSum(g.y, g.dy);
  };
  TestTensor dx(DType::kF64, {3, 7}), dw(DType::kF64, {7}), db(DType::kF64, {7});
  ComplexStepGradient(g.x, loss, dx);
  ComplexStepGradient(g.w, loss, dw);
  ComplexStepGradient(g.b, loss, db);
  for (const auto& [ours, truth] : {std::pair{&g.dx, &dx}, {&g.dw, &dw}, {&g.db, &db}}) {
    EXPECT_GT(MaxAbs(*truth), 0.1);
    EXPECT_LT(RelativeError(*ours, *truth), 1e-13);
  }
}

TEST(LayerNormTest, F32FollowsF64) {
  for (const auto& [rows, columns] : {std::pair{1, 3}, {5, 3}, {17, 100}, {64, 768}, {0, 8}}) {
    const TestContext ctx;
    Gradients f32(DType::kF32, rows, columns), f64(DType::kF64, rows, columns);
    f32.Run(ctx);
    f64.Run(ctx);
    // The error of a sum of n terms of random sign is about sqrt(n) roundings of its largest
    // partial sums; the eight elementwise operations of each term add theirs. The factor 4 is for
    // the tail. If a row's values lie close together, rstd magnifies the rounding of x - mean; no
    // row here has an rstd above 4.
    const auto bound = [&](double n) {
      return 4 * (std::sqrt(n) + 8) * std::max(1.0, MaxAbs(f64.rstd)) * 0x1p-24;
    };
    ASSERT_LT(MaxAbs(f64.rstd), 4);
    EXPECT_LE(RelativeError(f32.y, f64.y), bound(columns)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.mean, f64.mean), bound(columns)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.rstd, f64.rstd), bound(columns)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dx, f64.dx), bound(columns)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dw, f64.dw), bound(rows)) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.db, f64.db), bound(rows)) << rows << " x " << columns;
  }
}

TEST(LayerNormTest, ALargeMeanDoesNotSpoilTheVariance) {
  const TestContext ctx;
  Gradients g(DType::kF32, 1, 768);
  // The mean is exact. A difference of mean squares would lose the variance of 1e6 +- 1.
  for (int i = 0; i < 768; ++i) g.x->data<float>()[i] = 0x1p20f + (i % 2 == 0 ? 1 : -1);
  FillConstant(g.w, 1);
  FillConstant(g.b, 0);
  ASSERT_TRUE(
      LayerNormForward(
          ctx, {.x = g.x, .weight = g.w, .bias = g.b, .y = g.y, .mean = g.mean, .rstd = g.rstd}, 0)
          .ok());
  for (int i = 0; i < 768; ++i) EXPECT_EQ(g.y->data<float>()[i], i % 2 == 0 ? 1 : -1);
}

TEST(LayerNormTest, AccumulatesAndWorksInPlace) {
  const TestContext ctx;
  Gradients g(DType::kF32, 4, 8);
  g.Run(ctx);
  TestTensor sum(DType::kF32, {4, 8}), dw(DType::kF32, {8}), db(DType::kF32, {8});
  FillConstant(sum, 3);
  FillConstant(dw, 0);
  FillConstant(db, 0);
  ASSERT_TRUE(LayerNormBackward(ctx,
                                {.dy = g.dy,
                                 .x = g.x,
                                 .weight = g.w,
                                 .mean = g.mean,
                                 .rstd = g.rstd,
                                 .dx = sum,
                                 .dweight = dw,
                                 .dbias = db},
                                true)
                  .ok());
  for (int i = 0; i < 32; ++i) {
    EXPECT_FLOAT_EQ(sum->data<float>()[i], 3 + g.dx->data<float>()[i]);
  }
  // A second pass doubles the weight gradients.
  ASSERT_TRUE(LayerNormBackward(ctx,
                                {.dy = g.dy,
                                 .x = g.x,
                                 .weight = g.w,
                                 .mean = g.mean,
                                 .rstd = g.rstd,
                                 .dx = g.dy,
                                 .dweight = g.dw,
                                 .dbias = g.db},
                                false)
                  .ok());
  EXPECT_TRUE(SameBits(g.dy, g.dx));
  for (int i = 0; i < 8; ++i) {
    EXPECT_NEAR(g.dw->data<float>()[i], 2 * dw->data<float>()[i], 16 * MaxAbs(dw) * 0x1p-24);
    EXPECT_NEAR(g.db->data<float>()[i], 2 * db->data<float>()[i], 16 * MaxAbs(db) * 0x1p-24);
  }
  ASSERT_TRUE(LayerNormForward(
                  ctx,
                  {.x = g.x, .weight = g.w, .bias = g.b, .y = g.x, .mean = g.mean, .rstd = g.rstd},
                  kEps)
                  .ok());
  EXPECT_TRUE(SameBits(g.x, g.y));
}

TEST(LayerNormTest, TheSameBitsWithAnyNumberOfThreads) {
  Gradients one(DType::kF32, 33, 768), three(DType::kF32, 33, 768);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dx, three.dx));
  EXPECT_TRUE(SameBits(one.dw, three.dw));
  EXPECT_TRUE(SameBits(one.db, three.db));
}

TEST(LayerNormTest, NonFiniteInputsShow) {
  const TestContext ctx;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Gradients g(DType::kF32, 2, 8);
    g.x->data<float>()[3] = bad;
    g.Run(ctx);
    EXPECT_FALSE(std::isfinite(g.y->data<float>()[0]));
    EXPECT_FALSE(std::isfinite(g.dx->data<float>()[0]));
    EXPECT_FALSE(std::isfinite(g.dw->data<float>()[0]));
    EXPECT_TRUE(std::isfinite(g.y->data<float>()[8]));
  }
}

TEST(LayerNormTest, TheResidualIsAddedFirst) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    Gradients g(dtype, 33, 100);
    TestTensor x(dtype, {33, 100}), residual(dtype, {33, 100}), y(dtype, {33, 100}),
        mean(dtype, {33}), rstd(dtype, {33});
    FillNormal(x, 5);
    FillNormal(residual, 6);
    // The norm of the sum, which is g.x.
    ASSERT_TRUE(ResidualAddForward(ctx, x, residual, g.x).ok());
    ASSERT_TRUE(
        LayerNormForward(
            ctx, {.x = g.x, .weight = g.w, .bias = g.b, .y = g.y, .mean = g.mean, .rstd = g.rstd},
            kEps)
            .ok());
    ASSERT_TRUE(LayerNormForward(ctx,
                                 {.x = x,
                                  .residual = residual,
                                  .weight = g.w,
                                  .bias = g.b,
                                  .sum = g.dx,
                                  .y = y,
                                  .mean = mean,
                                  .rstd = rstd},
                                 kEps)
                    .ok());
    EXPECT_TRUE(SameBits(g.dx, g.x));
    EXPECT_TRUE(SameBits(y, g.y));
    EXPECT_TRUE(SameBits(mean, g.mean));
    EXPECT_TRUE(SameBits(rstd, g.rstd));
    // In place: the sum replaces the residual, y replaces x.
    ASSERT_TRUE(LayerNormForward(ctx,
                                 {.x = x,
                                  .residual = residual,
                                  .weight = g.w,
                                  .bias = g.b,
                                  .sum = residual,
                                  .y = x,
                                  .mean = mean,
                                  .rstd = rstd},
                                 kEps)
                    .ok());
    EXPECT_TRUE(SameBits(residual, g.x));
    EXPECT_TRUE(SameBits(x, g.y));
  }
}

TEST(LayerNormDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Gradients g(DType::kF32, 2, 4);
  TestTensor bias(DType::kF32, {3});
  EXPECT_DEATH(
      (void)LayerNormForward(
          ctx, {.x = g.x, .weight = g.w, .bias = bias, .y = g.y, .mean = g.mean, .rstd = g.rstd},
          kEps),
      "\\[layer_norm\\] x f32\\[2, 4\\].*bias f32\\[3\\]");
  EXPECT_DEATH((void)LayerNormBackward(ctx,
                                       {.dy = g.dy,
                                        .x = g.x,
                                        .weight = g.w,
                                        .mean = g.mean,
                                        .rstd = g.rstd,
                                        .dx = g.dx,
                                        .dweight = bias,
                                        .dbias = g.db},
                                       false),
               "\\[layer_norm\\] parameter f32\\[4\\], its gradient f32\\[3\\]");
  EXPECT_DEATH((void)LayerNormForward(ctx,
                                      {.x = g.x,
                                       .residual = g.x,
                                       .weight = g.w,
                                       .bias = g.b,
                                       .y = g.y,
                                       .mean = g.mean,
                                       .rstd = g.rstd},
                                      kEps),
               "residual f32\\[2, 4\\], sum undefined");
}

}  // namespace
}  // namespace strake
