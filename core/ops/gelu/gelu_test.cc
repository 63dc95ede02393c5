#include "core/ops/gelu/gelu.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

TEST(GeluTest, ClosedForms) {
  const TestContext ctx;
  // gelu(0) = 0 and gelu'(0) = 1/2; far from 0, the identity and 0.
  TestTensor x(DType::kF32, {3}), y(DType::kF32, {3}), dy(DType::kF32, {3}), dx(DType::kF32, {3});
  const float inputs[] = {0, 30, -30};
  std::copy(inputs, inputs + 3, x->data<float>());
  FillConstant(dy, 2);
  ASSERT_TRUE(GeluForward(ctx, x, y).ok());
  ASSERT_TRUE(GeluBackward(ctx, dy, x, dx).ok());
  EXPECT_EQ(y->data<float>()[0], 0);
  EXPECT_EQ(y->data<float>()[1], 30);
  EXPECT_EQ(y->data<float>()[2], 0);
  EXPECT_EQ(dx->data<float>()[0], 1);
  EXPECT_EQ(dx->data<float>()[1], 2);
  EXPECT_EQ(dx->data<float>()[2], 0);
}

TEST(GeluTest, FollowsTheFormula) {
  const TestContext ctx;
  TestTensor x(DType::kF64, {100}), y(DType::kF64, {100}), truth(DType::kF64, {100});
  FillNormal(x, 1, 2);
  ASSERT_TRUE(GeluForward(ctx, x, y).ok());
  for (int i = 0; i < 100; ++i) {
    const double v = x->data<double>()[i];
    truth->data<double>()[i] =
        0.5 * v * (1 + std::tanh(std::sqrt(2 / std::acos(-1)) * (v + 0.044715 * std::pow(v, 3))));
  }
  EXPECT_LT(RelativeError(y, truth), 1e-15);
}

TEST(GeluTest, GradientByComplexStep) {
  const TestContext ctx;
  TestTensor x(DType::kC128, {5, 7}), dy(DType::kC128, {5, 7}), y(DType::kC128, {5, 7}),
      dx(DType::kC128, {5, 7}), truth(DType::kF64, {5, 7});
  FillNormal(x, 1, 2);
  FillNormal(dy, 2);
  ASSERT_TRUE(GeluBackward(ctx, dy, x, dx).ok());
  const auto loss = [&] {
    EXPECT_TRUE(GeluForward(ctx, x, y).ok());
    return WeightedSum(y, dy);
  };
  ComplexStepGradient(x, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(dx, truth), 1e-14);
}

// x, y = gelu(x) and dx in one dtype.
struct Passes {
  Passes(DType dtype, int64_t rows, int64_t columns)
      : x(dtype, {rows, columns}),
        dy(dtype, {rows, columns}),
        y(dtype, {rows, columns}),
        dx(dtype, {rows, columns}) {
    FillNormal(x, 1, 3);
    FillNormal(dy, 2);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(GeluForward(ctx, x, y).ok());
    ASSERT_TRUE(GeluBackward(ctx, dy, x, dx).ok());
  }
  TestTensor x, dy, y, dx;
};

TEST(GeluTest, F32FollowsF64) {
  // In units of 2^-24 of the largest value. tanh and its argument err by about 4 each, and the
  // other operations add 6. In dx, 1 - tanh(u) has those absolute errors, which x du/dx magnifies;
  // it is below 20 up to where tanh is 1 in f32.
  constexpr double kBound = 20 * 0x1p-24, kSlopeBound = 100 * 0x1p-24;
  const TestContext ctx;
  for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 5}, {17, 100}, {64, 768}, {0, 8}}) {
    Passes f32(DType::kF32, rows, columns), f64(DType::kF64, rows, columns);
    f32.Run(ctx);
    f64.Run(ctx);
    EXPECT_LE(RelativeError(f32.y, f64.y), kBound) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dx, f64.dx), kSlopeBound) << rows << " x " << columns;
  }
}

TEST(GeluTest, WorksInPlaceWithTheSameBits) {
  const TestContext ctx;
  Passes g(DType::kF32, 13, 1001), over_dy(DType::kF32, 13, 1001), over_x(DType::kF32, 13, 1001);
  g.Run(ctx);
  ASSERT_TRUE(GeluBackward(ctx, over_dy.dy, over_dy.x, over_dy.dy).ok());
  EXPECT_TRUE(SameBits(over_dy.dy, g.dx));
  ASSERT_TRUE(GeluBackward(ctx, over_x.dy, over_x.x, over_x.x).ok());
  EXPECT_TRUE(SameBits(over_x.x, g.dx));
  ASSERT_TRUE(GeluForward(ctx, g.x, g.x).ok());
  EXPECT_TRUE(SameBits(g.x, g.y));
}

TEST(GeluTest, TheSameBitsWithAnyNumberOfThreads) {
  Passes one(DType::kF32, 33, 1001), three(DType::kF32, 33, 1001);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dx, three.dx));
}

TEST(GeluTest, NonFiniteInputsShow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const TestContext ctx;
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    // In the vectorised part and in the remainder.
    for (const int i : {5, 66}) {
      Passes g(DType::kF32, 1, 67);
      g.x->data<float>()[i] = bad;
      g.Run(ctx);
      EXPECT_FALSE(std::isfinite(g.y->data<float>()[i])) << bad;
      EXPECT_FALSE(std::isfinite(g.dx->data<float>()[i])) << bad;
      EXPECT_TRUE(std::isfinite(g.y->data<float>()[i - 1]));
      g.x->data<float>()[i] = 1;
      g.dy->data<float>()[i] = bad;
      g.Run(ctx);
      EXPECT_FALSE(std::isfinite(g.dx->data<float>()[i])) << bad;
    }
  }
}

TEST(GeluTest, LargeInputsAreTheLineOrNothing) {
  const TestContext ctx;
  for (const float large : {1e4f, 1e12f}) {
    Passes g(DType::kF32, 1, 32);
    for (int i = 0; i < 32; ++i) g.x->data<float>()[i] = i % 2 == 0 ? -large : large;
    g.Run(ctx);
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(g.y->data<float>()[i], i % 2 == 0 ? 0 : large);
      EXPECT_EQ(g.dx->data<float>()[i], i % 2 == 0 ? 0 : g.dy->data<float>()[i]);
    }
  }
}

TEST(GeluDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), y(DType::kF32, {2, 3});
  EXPECT_DEATH((void)GeluForward(ctx, x, y), "\\[gelu\\] x f32\\[2, 4\\], y f32\\[2, 3\\]");
  EXPECT_DEATH((void)GeluBackward(ctx, y, x, x), "\\[gelu\\] dy f32\\[2, 3\\], x f32\\[2, 4\\]");
}

}  // namespace
}  // namespace strake
