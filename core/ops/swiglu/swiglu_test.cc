#include "core/ops/swiglu/swiglu.h"

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

struct Passes {
  Passes(DType dtype, int64_t rows, int64_t columns)
      : gate_up(dtype, {rows, 2 * columns}),
        dy(dtype, {rows, columns}),
        y(dtype, {rows, columns}),
        dgate_up(dtype, {rows, 2 * columns}) {
    FillNormal(gate_up, 1, 3);
    FillNormal(dy, 2);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(SwigluForward(ctx, gate_up, y).ok());
    ASSERT_TRUE(SwigluBackward(ctx, dy, gate_up, dgate_up).ok());
  }
  TestTensor gate_up, dy, y, dgate_up;
};

TEST(SwigluTest, ClosedForm) {
  const TestContext ctx;
  // Gates (0, 40) and ups (3, 5): s = (1/2, 1), so y = (0, 200).
  Passes p(DType::kF32, 1, 2);
  const float inputs[] = {0, 40, 3, 5};
  for (int i = 0; i < 4; ++i) p.gate_up->data<float>()[i] = inputs[i];
  testing::FillConstant(p.dy, 2);
  p.Run(ctx);
  EXPECT_EQ(p.y->data<float>()[0], 0);
  EXPECT_EQ(p.y->data<float>()[1], 200);
  const float gradients[] = {3, 10, 0, 80};  // dgate = dy up s here; dup = dy gate s
  for (int i = 0; i < 4; ++i) EXPECT_EQ(p.dgate_up->data<float>()[i], gradients[i]) << i;
}

TEST(SwigluTest, GradientByComplexStep) {
  const TestContext ctx;
  Passes p(DType::kC128, 3, 7);
  p.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(SwigluForward(ctx, p.gate_up, p.y).ok());
    return WeightedSum(p.y, p.dy);
  };
  TestTensor truth(DType::kF64, {3, 14});
  ComplexStepGradient(p.gate_up, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.1);
  EXPECT_LT(RelativeError(p.dgate_up, truth), 1e-14);
}

TEST(SwigluTest, F32FollowsF64) {
  // The sigmoid errs by 3 units of the exponential and 2 of its own, which g (1 - s) < 1.3 may
  // double in dgate; six more operations follow. In total, below 20 units of the largest value.
  constexpr double kBound = 20 * 0x1p-24;
  const TestContext ctx;
  for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 5}, {17, 100}, {64, 768}, {0, 8}}) {
    Passes f32(DType::kF32, rows, columns), f64(DType::kF64, rows, columns);
    f32.Run(ctx);
    f64.Run(ctx);
    EXPECT_LE(RelativeError(f32.y, f64.y), kBound) << rows << " x " << columns;
    EXPECT_LE(RelativeError(f32.dgate_up, f64.dgate_up), kBound) << rows << " x " << columns;
  }
}

TEST(SwigluTest, WorksInPlaceWithTheSameBits) {
  const TestContext ctx;
  Passes p(DType::kF32, 13, 101);
  p.Run(ctx);
  ASSERT_TRUE(SwigluBackward(ctx, p.dy, p.gate_up, p.gate_up).ok());
  EXPECT_TRUE(SameBits(p.gate_up, p.dgate_up));
}

TEST(SwigluTest, TheSameBitsWithAnyNumberOfThreads) {
  Passes one(DType::kF32, 33, 1001), three(DType::kF32, 33, 1001);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.dgate_up, three.dgate_up));
}

TEST(SwigluTest, NonFiniteInputsShow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const TestContext ctx;
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    for (const int f : {5, 66}) {
      Passes p(DType::kF32, 1, 67);
      for (const int i : {f, 67 + f}) {  // as gate, then as up
        const float good = p.gate_up->data<float>()[i];
        p.gate_up->data<float>()[i] = bad;
        p.Run(ctx);
        p.gate_up->data<float>()[i] = good;
        EXPECT_FALSE(std::isfinite(p.y->data<float>()[f])) << bad;
        EXPECT_FALSE(std::isfinite(p.dgate_up->data<float>()[f])) << bad;
      }
    }
  }
}

TEST(SwigluTest, LargeGatesStayFinite) {
  const TestContext ctx;
  for (const float large : {1e4f, 1e37f}) {
    Passes p(DType::kF32, 1, 32);
    for (int f = 0; f < 32; ++f) p.gate_up->data<float>()[f] = f % 2 == 0 ? -large : large;
    p.Run(ctx);
    for (int f = 0; f < 32; ++f) {
      const float up = p.gate_up->data<float>()[32 + f], dy = p.dy->data<float>()[f];
      EXPECT_EQ(p.y->data<float>()[f], f % 2 == 0 ? 0 : large * up);
      EXPECT_EQ(p.dgate_up->data<float>()[f], f % 2 == 0 ? 0 : dy * up);
      EXPECT_EQ(p.dgate_up->data<float>()[32 + f], f % 2 == 0 ? 0 : dy * large);
    }
  }
}

TEST(SwigluDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  TestTensor gate_up(DType::kF32, {2, 8}), y(DType::kF32, {2, 3});
  EXPECT_DEATH((void)SwigluForward(ctx, gate_up, y),
               "\\[swiglu\\] gate_up f32\\[2, 8\\], y or gradient f32\\[2, 3\\]");
  EXPECT_DEATH((void)SwigluBackward(ctx, y, gate_up, gate_up), "y or gradient f32\\[2, 3\\]");
}

}  // namespace
}  // namespace strake
