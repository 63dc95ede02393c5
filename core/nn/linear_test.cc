#include "core/nn/linear.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using ::testing::ElementsAre;
using testing::FillNormal;
using testing::FillSmallIntegers;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

// A layer with its own parameters, an input, and a gradient of its output.
struct Fixture {
  Fixture(DType dtype, int64_t rows, int64_t in, int64_t out, bool transposed, bool has_bias = true)
      : x(dtype, {rows, in}), dy(dtype, {rows, out}) {
    weight = arena.Add({{"w", transposed ? in : out}}, transposed ? Shape{out, in} : Shape{in, out},
                       true);
    if (has_bias) bias = arena.Add({{"b", out}}, {out}, false);
    EXPECT_TRUE(arena.Allocate(dtype, true).ok());
    layer = std::make_unique<Linear>(weight, bias, transposed);
    FillNormal(weight->value, 1);
    if (has_bias) FillNormal(bias->value, 2);
    FillNormal(x, 3);
    FillNormal(dy, 4);
  }
  void Run(const Context& ctx) {
    auto forward = layer->Forward(ctx, x, &saved);
    ASSERT_TRUE(forward.ok());
    y = *forward;
    auto backward = layer->BackwardInput(ctx, dy, &saved).Wait();
    ASSERT_TRUE(backward.ok());
    dx = *backward;
    ASSERT_TRUE(layer->BackwardWeight(ctx, dy, saved).ok());
  }

  ParameterArena arena;
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  std::unique_ptr<Linear> layer;
  TestTensor x, dy;
  LinearSaved saved;
  Tensor y, dx;
};

TEST(LinearTest, GradientsByComplexStep) {
  const TestContext test;
  const Context& ctx = test;
  for (const bool transposed : {false, true}) {
    Fixture f(DType::kC128, 3, 4, 5, transposed);
    f.Run(ctx);
    const auto loss = [&] {
      const ActivationScope scope(ctx.arena());
      const auto y = f.layer->Forward(ctx, f.x, nullptr);
      EXPECT_TRUE(y.ok());
      return WeightedSum(*y, f.dy);
    };
    TestTensor dx(DType::kF64, {3, 4}), dw(DType::kF64, f.weight->shape), db(DType::kF64, {5});
    ComplexStepGradient(f.x, loss, dx);
    ComplexStepGradient(f.weight->value, loss, dw);
    ComplexStepGradient(f.bias->value, loss, db);
    EXPECT_GT(MaxAbs(dx), 0.1);
    EXPECT_GT(MaxAbs(dw), 0.1);
    EXPECT_GT(MaxAbs(db), 0.1);
    EXPECT_LT(RelativeError(f.dx, dx), 1e-14) << transposed;
    EXPECT_LT(RelativeError(f.weight->grad, dw), 1e-14) << transposed;
    EXPECT_LT(RelativeError(f.bias->grad, db), 1e-14) << transposed;
  }
}

TEST(LinearTest, F32FollowsF64) {
  for (const bool transposed : {false, true}) {
    for (const auto& [rows, in, out] : {std::tuple{1, 100, 30}, {33, 64, 100}, {0, 5, 7}}) {
      const TestContext ctx;
      Fixture f32(DType::kF32, rows, in, out, transposed),
          f64(DType::kF64, rows, in, out, transposed);
      f32.Run(ctx);
      f64.Run(ctx);
      // The error of a sum of n products of random sign is about sqrt(n) roundings of numbers up to
      // the largest result, plus 3 for inputs and bias. The factor 4 is for the tail.
      const auto bound = [](double n) { return 4 * (std::sqrt(n) + 3) * 0x1p-24; };
      EXPECT_LE(RelativeError(f32.y, f64.y), bound(in));
      EXPECT_LE(RelativeError(f32.dx, f64.dx), bound(out));
      EXPECT_LE(RelativeError(f32.weight->grad, f64.weight->grad), bound(rows));
      EXPECT_LE(RelativeError(f32.bias->grad, f64.bias->grad), bound(rows));
    }
  }
}

// A cleared gradient is overwritten, whatever it holds, and then accumulated into.
TEST(LinearTest, OverwritesAClearedGradient) {
  const TestContext ctx;
  for (const bool transposed : {false, true}) {
    Fixture f(DType::kF32, 6, 4, 5, transposed);
    FillSmallIntegers(f.x, 1);
    FillSmallIntegers(f.dy, 2);
    f.Run(ctx);
    float* const grad = f.weight->grad.data<float>();
    const std::vector<float> once(grad, grad + 20);
    EXPECT_GT(MaxAbs(f.weight->grad), 0);
    EXPECT_TRUE(f.weight->grad_is_overwritten);
    grad[7] = NAN;
    f.weight->grad_is_cleared = true;
    f.Run(ctx);
    EXPECT_EQ(std::vector<float>(grad, grad + 20), once);
    f.Run(ctx);
    for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(grad[i], 2 * once[i]) << i;
  }
}

// Both storage orders are the same layer, exactly, on small integers.
TEST(LinearTest, TransposedIsTheSameLayer) {
  const TestContext ctx;
  Fixture plain(DType::kF32, 6, 4, 5, false), transposed(DType::kF32, 6, 4, 5, true);
  for (Fixture* f : {&plain, &transposed}) {
    FillSmallIntegers(f->x, 1);
    FillSmallIntegers(f->dy, 2);
    FillSmallIntegers(f->bias->value, 3);
  }
  FillSmallIntegers(plain.weight->value, 4);
  for (int i = 0; i < 4; ++i) {
    for (int o = 0; o < 5; ++o) {
      transposed.weight->value.data<float>()[o * 4 + i] =
          plain.weight->value.data<float>()[i * 5 + o];
    }
  }
  plain.Run(ctx);
  transposed.Run(ctx);
  EXPECT_GT(MaxAbs(plain.y), 0);
  EXPECT_TRUE(testing::SameBits(plain.y, transposed.y));
  EXPECT_TRUE(testing::SameBits(plain.dx, transposed.dx));
  EXPECT_TRUE(testing::SameBits(plain.bias->grad, transposed.bias->grad));
  for (int i = 0; i < 4; ++i) {
    for (int o = 0; o < 5; ++o) {
      EXPECT_EQ(GetElement(transposed.weight->grad, o * 4 + i),
                GetElement(plain.weight->grad, i * 5 + o));
    }
  }
}

// The same micro-batch of small integers, twice, gives exactly twice the gradient.
TEST(LinearTest, MicroBatchesAccumulate) {
  const TestContext ctx;
  for (const bool transposed : {false, true}) {
    Fixture once(DType::kF32, 5, 3, 4, transposed), twice(DType::kF32, 5, 3, 4, transposed);
    for (Fixture* f : {&once, &twice}) {
      FillSmallIntegers(f->x, 1);
      FillSmallIntegers(f->dy, 2);
      f->Run(ctx);
    }
    twice.Run(ctx);
    EXPECT_GT(MaxAbs(once.weight->grad), 0);
    for (int i = 0; i < 12; ++i) {
      EXPECT_EQ(GetElement(twice.weight->grad, i), 2. * GetElement(once.weight->grad, i));
    }
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(GetElement(twice.bias->grad, i), 2. * GetElement(once.bias->grad, i));
    }
  }
}

TEST(LinearTest, AnnouncesEachGradientOncePerMicroBatch) {
  TestContext test;
  std::vector<const Parameter*> ready;
  test.context().set_on_grad_ready([&](const Parameter& parameter) {
    EXPECT_GT(MaxAbs(parameter.grad), 0) << ShapeString(parameter.shape) << " is not complete";
    ready.push_back(&parameter);
  });
  Fixture f(DType::kF32, 2, 3, 4, false);
  f.Run(test);
  EXPECT_THAT(ready, ElementsAre(f.bias, f.weight));
  f.Run(test);
  EXPECT_THAT(ready, ElementsAre(f.bias, f.weight, f.bias, f.weight));

  ready.clear();
  Fixture no_bias(DType::kF32, 2, 3, 4, false, false);
  no_bias.Run(test);
  EXPECT_THAT(ready, ElementsAre(no_bias.weight));

  ready.clear();
  Fixture tied(DType::kF32, 2, 3, 4, true);
  tied.layer = std::make_unique<Linear>(tied.weight, tied.bias, true, WeightOwnership::kShared);
  tied.Run(test);
  EXPECT_THAT(ready, ElementsAre(tied.bias));
  EXPECT_GT(MaxAbs(tied.weight->grad), 0);
}

TEST(LinearTest, TheDryRunPlansWhatTheRunNeeds) {
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun();
  Fixture f(DType::kF32, 5, 3, 4, false);
  f.Run(Context(&team, &plan));
  auto arena = ActivationArena::Create(plan.peak_bytes());
  ASSERT_TRUE(arena.ok());
  f.Run(Context(&team, &*arena));
  EXPECT_EQ(arena->peak_bytes(), plan.peak_bytes());
  EXPECT_GT(MaxAbs(f.y), 0);
}

TEST(LinearDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Fixture f(DType::kF32, 2, 3, 4, false);
  TestTensor x(DType::kF32, {2, 4});
  EXPECT_DEATH((void)f.layer->Forward(ctx, x, nullptr),
               "\\[linear\\] x f32\\[2, 4\\], weight f32\\[3, 4\\]");
  EXPECT_DEATH(Linear(f.weight, f.bias, true), "\\[linear\\] weight \\[3, 4\\], bias \\[4\\]");
}

}  // namespace
}  // namespace strake
