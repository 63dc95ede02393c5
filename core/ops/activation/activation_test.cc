#include "core/ops/activation/activation.h"

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

class ActivationTest : public ::testing::TestWithParam<ActivationKind> {};

// x, y = f(x) and dx in one dtype.
struct Passes {
  Passes(ActivationKind kind, DType dtype, int64_t rows, int64_t columns)
      : kind(kind),
        x(dtype, {rows, columns}),
        dy(dtype, {rows, columns}),
        y(dtype, {rows, columns}),
        dx(dtype, {rows, columns}) {
    FillNormal(x, 1, 3);
    FillNormal(dy, 2);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(ActivationForward(ctx, kind, x, y).ok());
    ASSERT_TRUE(ActivationBackward(ctx, kind, dy, x, dx).ok());
  }
  ActivationKind kind;
  TestTensor x, dy, y, dx;
};

TEST_P(ActivationTest, ClosedForms) {
  const TestContext ctx;
  // f(0) = 0, and f'(0) = 1/2, or 0 of ReLU; far from 0, the identity and 0.
  Passes p(GetParam(), DType::kF32, 1, 3);
  const float inputs[] = {0, 30, -30};
  std::copy(inputs, inputs + 3, p.x->data<float>());
  FillConstant(p.dy, 2);
  p.Run(ctx);
  const double rounding = 2 * 30 * 30 * std::exp(-30.);  // of SiLU's tail, and one of f32
  EXPECT_EQ(p.y->data<float>()[0], 0);
  EXPECT_NEAR(p.y->data<float>()[1], 30, rounding);
  EXPECT_NEAR(p.y->data<float>()[2], 0, rounding);
  EXPECT_NEAR(p.dx->data<float>()[0], GetParam() == ActivationKind::kRelu ? 0 : 1, 2 * 0x1p-24);
  EXPECT_NEAR(p.dx->data<float>()[1], 2, rounding);
  EXPECT_NEAR(p.dx->data<float>()[2], 0, rounding);
}

double Formula(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::acos(-1)) * (x + 0.044715 * std::pow(x, 3))));
    case ActivationKind::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
    case ActivationKind::kRelu:
      break;
  }
  return std::max(x, 0.);
}

TEST_P(ActivationTest, FollowsTheFormula) {
  const TestContext ctx;
  Passes p(GetParam(), DType::kF64, 1, 100);
  TestTensor truth(DType::kF64, {1, 100});
  p.Run(ctx);
  for (int i = 0; i < 100; ++i) {
    truth->data<double>()[i] = Formula(GetParam(), p.x->data<double>()[i]);
  }
  EXPECT_LT(RelativeError(p.y, truth), 1e-15);
}

TEST_P(ActivationTest, GradientByComplexStep) {
  const TestContext ctx;
  Passes p(GetParam(), DType::kC128, 5, 7);
  TestTensor truth(DType::kF64, {5, 7});
  p.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(ActivationForward(ctx, GetParam(), p.x, p.y).ok());
    return WeightedSum(p.y, p.dy);
  };
  ComplexStepGradient(p.x, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(p.dx, truth), 1e-14);
}

TEST_P(ActivationTest, F32FollowsF64) {
  // Units are 2^-24 of the largest value. tanh and its argument err by about 4 each, and the
  // other operations add 6. In dx, 1 - tanh(u) has those absolute errors, which x du/dx magnifies;
  // it is below 20 up to where tanh is 1 in f32. In erf's form x times the density, which is at
  // most 0.25, errs by x^2 / 2 < 25 from its rounded exponent.
  constexpr double kBound = 20 * 0x1p-24, kSlopeBound = 100 * 0x1p-24;
  const TestContext ctx;
  for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 5}, {17, 100}, {64, 768}, {0, 8}}) {
    Passes f32(GetParam(), DType::kF32, rows, columns), f64(GetParam(), DType::kF64, rows, columns);
    f32.Run(ctx);
    f64.Run(ctx);
    EXPECT_LE(RelativeError(f32.y, f64.y), kBound) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dx, f64.dx), kSlopeBound) << rows << " x " << columns;
  }
}

TEST_P(ActivationTest, WorksInPlaceWithTheSameBits) {
  const TestContext ctx;
  const ActivationKind kind = GetParam();
  Passes p(kind, DType::kF32, 13, 1001), over_dy(kind, DType::kF32, 13, 1001),
      over_x(kind, DType::kF32, 13, 1001);
  p.Run(ctx);
  ASSERT_TRUE(ActivationBackward(ctx, kind, over_dy.dy, over_dy.x, over_dy.dy).ok());
  EXPECT_TRUE(SameBits(over_dy.dy, p.dx));
  ASSERT_TRUE(ActivationBackward(ctx, kind, over_x.dy, over_x.x, over_x.x).ok());
  EXPECT_TRUE(SameBits(over_x.x, p.dx));
  ASSERT_TRUE(ActivationForward(ctx, kind, p.x, p.x).ok());
  EXPECT_TRUE(SameBits(p.x, p.y));
}

TEST_P(ActivationTest, TheSameBitsWithAnyNumberOfThreads) {
  Passes one(GetParam(), DType::kF32, 33, 1001), three(GetParam(), DType::kF32, 33, 1001);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dx, three.dx));
}

TEST_P(ActivationTest, NonFiniteInputsShow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const bool relu = GetParam() == ActivationKind::kRelu;  // has a limit and a slope at infinity
  const TestContext ctx;
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    // Covers the vectorised part and the remainder.
    for (const int i : {5, 66}) {
      Passes p(GetParam(), DType::kF32, 1, 67);
      p.x->data<float>()[i] = bad;
      p.Run(ctx);
      EXPECT_EQ(std::isfinite(p.y->data<float>()[i]), relu && bad < 0) << bad;
      EXPECT_EQ(std::isfinite(p.dx->data<float>()[i]), relu) << bad;
      EXPECT_TRUE(std::isfinite(p.y->data<float>()[i - 1]));
      p.x->data<float>()[i] = 1;
      p.dy->data<float>()[i] = bad;
      p.Run(ctx);
      EXPECT_FALSE(std::isfinite(p.dx->data<float>()[i])) << bad;
    }
  }
}

TEST_P(ActivationTest, LargeInputsAreTheLineOrNothing) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const float large : {128.f, 0x1p13f, 0x1p40f, 0x1p62f}) {
      // x^3 overflows, in the definition in f32, too.
      if (large > 0x1p42f && GetParam() == ActivationKind::kGeluTanh) continue;
      Passes p(GetParam(), dtype, 1, 33);
      for (int i = 0; i < 33; ++i) testing::SetElement(p.x, i, i % 2 == 0 ? -large : large);
      p.Run(ctx);
      for (int i = 0; i < 33; ++i) {
        EXPECT_EQ(testing::GetElement(p.y, i).real(), i % 2 == 0 ? 0 : large) << large;
        EXPECT_EQ(testing::GetElement(p.dx, i).real(),
                  i % 2 == 0 ? 0 : testing::GetElement(p.dy, i).real())
            << large;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, ActivationTest, ::testing::ValuesIn(kActivationKinds),
                         [](const auto& info) { return ActivationName(info.param); });

TEST(ActivationDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor x(DType::kF32, {2, 4}), y(DType::kF32, {2, 3});
  EXPECT_DEATH((void)ActivationForward(ctx, ActivationKind::kGeluTanh, x, y),
               "\\[gelu\\] x f32\\[2, 4\\], y f32\\[2, 3\\]");
  EXPECT_DEATH((void)ActivationBackward(ctx, ActivationKind::kSilu, y, x, x),
               "\\[silu\\] dy f32\\[2, 3\\], x f32\\[2, 4\\]");
}

}  // namespace
}  // namespace strake
