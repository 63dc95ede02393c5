#include "core/ops/gated_activation/gated_activation.h"

#include <cmath>
#include <limits>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

class GatedActivationTest : public ::testing::TestWithParam<ActivationKind> {};

struct Passes {
  Passes(ActivationKind kind, DType dtype, int64_t rows, int64_t columns)
      : kind(kind),
        gate_up(dtype, {rows, 2 * columns}),
        dy(dtype, {rows, columns}),
        y(dtype, {rows, columns}),
        dgate_up(dtype, {rows, 2 * columns}) {
    FillNormal(gate_up, 1, 3);
    FillNormal(dy, 2);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(GatedActivationForward(ctx, kind, gate_up, y).ok());
    ASSERT_TRUE(GatedActivationBackward(ctx, kind, dy, gate_up, dgate_up).ok());
  }
  ActivationKind kind;
  TestTensor gate_up, dy, y, dgate_up;
};

TEST_P(GatedActivationTest, ClosedForm) {
  const TestContext ctx;
  // Gates (0, 40) and ups (3, 5): the gates' activations are (0, 40), with slopes (1/2, 1), or
  // (0, 1) of ReLU.
  Passes p(GetParam(), DType::kF32, 1, 2);
  const float inputs[] = {0, 40, 3, 5};
  for (int i = 0; i < 4; ++i) p.gate_up->data<float>()[i] = inputs[i];
  testing::FillConstant(p.dy, 2);
  p.Run(ctx);
  EXPECT_EQ(p.y->data<float>()[0], 0);
  EXPECT_EQ(p.y->data<float>()[1], 200);
  const float slope = GetParam() == ActivationKind::kRelu ? 0 : 0.5;
  const float gradients[] = {6 * slope, 10, 0, 80};
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(p.dgate_up->data<float>()[i], gradients[i], 8 * 0x1p-24) << i;
  }
}

TEST_P(GatedActivationTest, GradientByComplexStep) {
  const TestContext ctx;
  Passes p(GetParam(), DType::kC128, 3, 7);
  p.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(GatedActivationForward(ctx, GetParam(), p.gate_up, p.y).ok());
    return WeightedSum(p.y, p.dy);
  };
  TestTensor truth(DType::kF64, {3, 14});
  ComplexStepGradient(p.gate_up, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(p.dgate_up, truth), 1e-14);
}

TEST_P(GatedActivationTest, F32FollowsF64) {
  // The sigmoid errs by 3 units of the exponential and 2 of its own, which g (1 - s) < 1.3 may
  // double in dgate; six more operations follow. In total, below 20 units of the largest value.
  // GELU's slopes: core/ops/activation/activation_test.cc.
  constexpr double kBound = 20 * 0x1p-24;
  const double slope_bound = GetParam() == ActivationKind::kSilu ? kBound : 100 * 0x1p-24;
  const TestContext ctx;
  for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 5}, {17, 100}, {64, 768}, {0, 8}}) {
    Passes f32(GetParam(), DType::kF32, rows, columns), f64(GetParam(), DType::kF64, rows, columns);
    f32.Run(ctx);
    f64.Run(ctx);
    EXPECT_LE(RelativeError(f32.y, f64.y), kBound) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dgate_up, f64.dgate_up), slope_bound) << rows << " x " << columns;
  }
}

TEST_P(GatedActivationTest, WorksInPlaceWithTheSameBits) {
  const TestContext ctx;
  Passes p(GetParam(), DType::kF32, 13, 101);
  p.Run(ctx);
  ASSERT_TRUE(GatedActivationBackward(ctx, GetParam(), p.dy, p.gate_up, p.gate_up).ok());
  EXPECT_TRUE(SameBits(p.gate_up, p.dgate_up));
}

TEST_P(GatedActivationTest, TheSameBitsWithAnyNumberOfThreads) {
  Passes one(GetParam(), DType::kF32, 33, 1001), three(GetParam(), DType::kF32, 33, 1001);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dgate_up, three.dgate_up));
}

TEST_P(GatedActivationTest, NonFiniteInputsShow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const TestContext ctx;
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    for (const int f : {5, 66}) {
      Passes p(GetParam(), DType::kF32, 1, 67);
      p.gate_up->data<float>()[f] = 1;   // where ReLU, too, multiplies
      for (const int i : {f, 67 + f}) {  // as gate, then as up
        if (GetParam() == ActivationKind::kRelu && i == f && bad < 0) continue;  // 0, as it should
        const float good = p.gate_up->data<float>()[i];
        p.gate_up->data<float>()[i] = bad;
        p.Run(ctx);
        p.gate_up->data<float>()[i] = good;
        EXPECT_FALSE(std::isfinite(p.y->data<float>()[f])) << bad;
        // ReLU has a slope at infinity.
        const int64_t shown = GetParam() == ActivationKind::kRelu && i == f ? 67 + f : f;
        EXPECT_FALSE(std::isfinite(p.dgate_up->data<float>()[shown])) << bad;
      }
    }
  }
}

TEST_P(GatedActivationTest, LargeGatesStayFinite) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const float large : {0x1p13f, 0x1p40f}) {
      Passes p(GetParam(), dtype, 1, 33);
      for (int f = 0; f < 33; ++f) {
        testing::SetElement(p.gate_up, f, f % 2 == 0 ? -large : large);
        testing::SetElement(p.gate_up, 33 + f, f % 3 - 1);  // so that products are exact
      }
      p.Run(ctx);
      for (int f = 0; f < 33; ++f) {
        const double up = f % 3 - 1, dy = testing::GetElement(p.dy, f).real();
        EXPECT_EQ(testing::GetElement(p.y, f).real(), f % 2 == 0 ? 0 : large * up);
        EXPECT_EQ(testing::GetElement(p.dgate_up, f).real(), f % 2 == 0 ? 0 : dy * up);
        EXPECT_EQ(testing::GetElement(p.dgate_up, 33 + f).real(), f % 2 == 0 ? 0 : dy * large);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GatedActivationTest, ::testing::ValuesIn(kActivationKinds),
                         [](const auto& info) { return GatedActivationName(info.param); });

TEST(GatedActivationDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor gate_up(DType::kF32, {2, 8}), y(DType::kF32, {2, 3});
  EXPECT_DEATH((void)GatedActivationForward(ctx, ActivationKind::kSilu, gate_up, y),
               "\\[swiglu\\] gate_up f32\\[2, 8\\], y or gradient f32\\[2, 3\\]");
  EXPECT_DEATH((void)GatedActivationBackward(ctx, ActivationKind::kSilu, y, gate_up, gate_up),
               "y or gradient f32\\[2, 3\\]");
}

}  // namespace
}  // namespace strake
