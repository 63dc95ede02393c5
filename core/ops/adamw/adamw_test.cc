#include "core/ops/adamw/adamw.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::FillNormal;
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

absl::Status Update(const Context& ctx, const AdamWStep& step, const Tensor& clip,
                    const Tensor& grad, const Tensor& weight, const Tensor& m, const Tensor& v) {
  const TestTensor scalars(weight.dtype(), {kNumAdamWScalars});
  SetAdamWScalars(step, scalars);
  return AdamWUpdate(ctx,
                     {.scalars = scalars,
                      .clip = clip,
                      .grad = grad,
                      .weight = weight,
                      .exp_avg = m,
                      .exp_avg_sq = v},
                     /*weight_decay=*/true);
}

struct Clip {
  explicit Clip(double scale, double norm = 1) {
    values->data<double>()[0] = norm;
    values->data<double>()[1] = scale;
  }
  operator const Tensor&() const { return values; }  // NOLINT(google-explicit-constructor)
  TestTensor values{DType::kF64, {2}};
};

struct State {
  State(DType dtype, int64_t size)
      : weight(dtype, {size}), m(dtype, {size}), v(dtype, {size}), grad(dtype, {size}) {
    FillNormal(weight, 1);
    FillConstant(m, 0);
    FillConstant(v, 0);
  }
  // Runs step t with a gradient that is a function of t.
  void Run(const Context& ctx, AdamWStep step, int64_t t, const Tensor& clip = Tensor()) {
    FillNormal(grad, 100 + t);
    step.step = t;
    ASSERT_TRUE(Update(ctx, step, clip, grad, weight, m, v).ok());
  }
  TestTensor weight, m, v, grad;
};

// In the first step, bias correction gives m = g and v = g^2, whatever the betas, so the weight
// moves by lr * sign(g), after decay.
TEST(AdamWTest, TheFirstStepMovesByTheLearningRate) {
  const TestContext ctx;
  for (const double beta1 : {0.0, 0.3, 0.9}) {
    for (const double beta2 : {0.0, 0.5, 0.95}) {
      State s(DType::kF64, 100), before(DType::kF64, 100);
      s.Run(ctx, {.lr = 0.25, .beta1 = beta1, .beta2 = beta2, .eps = 0, .weight_decay = 0.5}, 1);
      for (int i = 0; i < 100; ++i) {
        const double w = GetElement(before.weight, i).real();
        const double sign = GetElement(s.grad, i).real() > 0 ? 1 : -1;
        EXPECT_NEAR(GetElement(s.weight, i).real(), w * (1 - 0.25 * 0.5) - 0.25 * sign, 1e-14);
      }
    }
  }
}

// Computed by hand: g = 2 then -1 with beta1 = beta2 = 1/2.
//   t = 1: m = 1, v = 2, mhat = 2, vhat = 4:      w = 1 * 0.99 - 0.1 * 2 / (2 + 1)
//   t = 2: m = 0, v = 1.5, mhat = 0:              w *= 0.99
//   t = 3 (g = 4): m = 2, v = 8.75, mhat = 16/7, vhat = 10
TEST(AdamWTest, ThreeStepsByHand) {
  const TestContext ctx;
  TestTensor g(DType::kF64, {1}), w(DType::kF64, {1}), m(DType::kF64, {1}), v(DType::kF64, {1});
  FillConstant(w, 1);
  FillConstant(m, 0);
  FillConstant(v, 0);
  AdamWStep step = {.lr = 0.1, .beta1 = 0.5, .beta2 = 0.5, .eps = 1, .weight_decay = 0.1};
  double expected = 1;
  const double gradients[] = {2, -1, 4}, ms[] = {1, 0, 2}, vs[] = {2, 1.5, 8.75};
  const double updates[] = {2. / 3, 0, 16. / 7 / (std::sqrt(10.) + 1)};
  for (int t = 0; t < 3; ++t) {
    FillConstant(g, gradients[t]);
    step.step = t + 1;
    ASSERT_TRUE(Update(ctx, step, {}, g, w, m, v).ok());
    expected = expected * 0.99 - 0.1 * updates[t];
    EXPECT_DOUBLE_EQ(*m->data<double>(), ms[t]);
    EXPECT_DOUBLE_EQ(*v->data<double>(), vs[t]);
    EXPECT_DOUBLE_EQ(*w->data<double>(), expected) << "step " << t + 1;
  }
}

TEST(AdamWTest, F32FollowsF64) {
  const TestContext ctx;
  const AdamWStep step = {.lr = 1e-2, .weight_decay = 0.1};
  const Clip clip(0.3);
  State f32(DType::kF32, 10000), f64(DType::kF64, 10000);
  constexpr int kSteps = 20;
  for (int t = 1; t <= kSteps; ++t) {
    f32.Run(ctx, step, t, clip);
    f64.Run(ctx, step, t, clip);
  }
  // A weight is rounded twice a step, by at most one unit each of the largest weight. The update
  // adds some ten roundings of lr times a number of about 1. m and v are rounded four times a step,
  // damped.
  EXPECT_LE(RelativeError(f32.weight, f64.weight), kSteps * (2 + 10 * 1e-2) * 0x1p-24);
  EXPECT_LE(RelativeError(f32.m, f64.m), 4 * kSteps * 0x1p-24);
  EXPECT_LE(RelativeError(f32.v, f64.v), 4 * kSteps * 0x1p-24);
  State start(DType::kF32, 10000);
  EXPECT_GT(RelativeError(f32.weight, start.weight), 1e-2);
}

TEST(AdamWTest, ScaleIsThatOfTheGradient) {
  const TestContext ctx;
  State scaled(DType::kF32, 1000), halved(DType::kF32, 1000);
  FillNormal(scaled.grad, 7);
  FillNormal(halved.grad, 7, 0.5);
  const AdamWStep step = {.lr = 0.1};
  ASSERT_TRUE(Update(ctx, step, Clip(0.5), scaled.grad, scaled.weight, scaled.m, scaled.v).ok());
  ASSERT_TRUE(Update(ctx, step, {}, halved.grad, halved.weight, halved.m, halved.v).ok());
  EXPECT_TRUE(SameBits(scaled.weight, halved.weight));
  EXPECT_TRUE(SameBits(scaled.m, halved.m));
  EXPECT_TRUE(SameBits(scaled.v, halved.v));
}

// Any split into ranges gives the same bits: by threads, and slices at odd addresses.
TEST(AdamWTest, TheSameBitsWithAnyNumberOfThreadsAndAnySlices) {
  constexpr int64_t kSize = 20011, kCut = 77;
  const AdamWStep step = {.lr = 1e-2, .weight_decay = 0.1};
  State one(DType::kF32, kSize), three(DType::kF32, kSize), sliced(DType::kF32, kSize);
  const Clip clip(0.3);
  const TestContext ctx3(OpSet::kAuto, 3), ctx1(OpSet::kAuto, 1);
  for (int t = 1; t <= 3; ++t) {
    one.Run(ctx1, step, t, clip);
    three.Run(ctx3, step, t, clip);
    AdamWStep now = step;
    now.step = t;
    FillNormal(sliced.grad, 100 + t);
    for (const auto& [begin, end] : {std::pair{int64_t{0}, kCut}, {kCut, kSize}}) {
      ASSERT_TRUE(Update(ctx1, now, clip, sliced.grad->Rows(begin, end),
                         sliced.weight->Rows(begin, end), sliced.m->Rows(begin, end),
                         sliced.v->Rows(begin, end))
                      .ok());
    }
  }
  EXPECT_GT(MaxAbs(one.m), 0);
  EXPECT_TRUE(SameBits(one.weight, three.weight));
  EXPECT_TRUE(SameBits(one.weight, sliced.weight));
  EXPECT_TRUE(SameBits(one.v, sliced.v));
}

TEST(AdamWTest, EmptyRangesAndZeroGradients) {
  const TestContext ctx;
  State(DType::kF32, 0).Run(ctx, {.lr = 0.1}, 1);
  State s(DType::kF32, 5), start(DType::kF32, 5);
  FillConstant(s.grad, 0);
  ASSERT_TRUE(Update(ctx, {.lr = 0.1}, {}, s.grad, s.weight, s.m, s.v).ok());
  EXPECT_TRUE(SameBits(s.weight, start.weight));
}

TEST(AdamWTest, NothingChangesWithoutAFiniteNormAndAPositiveScale) {
  const TestContext ctx;
  const double kInf = INFINITY;
  for (const auto& [norm, scale] : {std::pair{3., 0.},
                                    {3., -1.},
                                    {3., kInf},
                                    {3., std::nan("")},
                                    {kInf, 1.},
                                    {kInf, 0.},
                                    {std::nan(""), 1.}}) {
    SCOPED_TRACE(::testing::Message() << "norm " << norm << ", scale " << scale);
    State s(DType::kF32, 5), start(DType::kF32, 5);
    s.Run(ctx, {.lr = 0.1}, 1, Clip(scale, norm));
    EXPECT_TRUE(SameBits(s.weight, start.weight));
    EXPECT_TRUE(SameBits(s.m, start.m));
    EXPECT_TRUE(SameBits(s.v, start.v));
  }
}

TEST(AdamWTest, WithoutWeightDecayThatOfTheStepIsZero) {
  const TestContext ctx;
  State zero(DType::kF32, 100), off(DType::kF32, 100);
  zero.Run(ctx, {.lr = 0.1, .weight_decay = 0}, 1);
  FillNormal(off.grad, 101);
  const TestTensor scalars(DType::kF32, {kNumAdamWScalars});
  SetAdamWScalars({.lr = 0.1, .weight_decay = 0.5}, scalars);
  ASSERT_TRUE(AdamWUpdate(ctx,
                          {.scalars = scalars,
                           .grad = off.grad,
                           .weight = off.weight,
                           .exp_avg = off.m,
                           .exp_avg_sq = off.v},
                          false)
                  .ok());
  EXPECT_TRUE(SameBits(zero.weight, off.weight));
}

TEST(AdamWTest, RoundedIsTheNewWeightInBf16) {
  const TestContext ctx;
  State s(DType::kF32, 5000);
  FillNormal(s.grad, 1);
  const TestTensor scalars(DType::kF32, {kNumAdamWScalars}), rounded(DType::kBf16, {5000}),
      expected(DType::kBf16, {5000});
  SetAdamWScalars({.lr = 0.1}, scalars);
  ASSERT_TRUE(AdamWUpdate(ctx,
                          {.scalars = scalars,
                           .grad = s.grad,
                           .weight = s.weight,
                           .exp_avg = s.m,
                           .exp_avg_sq = s.v,
                           .rounded = rounded},
                          true)
                  .ok());
  testing::CopyConvert(s.weight, expected);
  EXPECT_TRUE(SameBits(rounded, expected));
}

TEST(AdamWDeathTest, WrongArgumentsAreNamed) {
  const TestContext ctx;
  State s(DType::kF32, 4), f64(DType::kF64, 4);
  TestTensor short_grad(DType::kF32, {3}), c128(DType::kC128, {4}), three(DType::kF64, {3});
  const TestTensor scalars(DType::kF32, {kNumAdamWScalars}), bf16(DType::kBf16, {4});
  const auto update = [&](const Tensor& scalars, const Tensor& clip, const Tensor& grad,
                          const State& s, const Tensor& rounded) {
    (void)AdamWUpdate(ctx,
                      {.scalars = scalars,
                       .clip = clip,
                       .grad = grad,
                       .weight = s.weight,
                       .exp_avg = s.m,
                       .exp_avg_sq = s.v,
                       .rounded = rounded},
                      true);
  };
  EXPECT_DEATH(update(scalars, {}, short_grad, s, {}),
               "\\[adamw\\] grad f32\\[3\\], weight f32\\[4\\]");
  EXPECT_DEATH(
      (void)AdamWUpdate(
          ctx,
          {.scalars = scalars, .grad = c128, .weight = c128, .exp_avg = c128, .exp_avg_sq = c128},
          true),
      "weight c128\\[4\\]");
  EXPECT_DEATH(update(scalars, {}, f64.grad, f64, {}), "scalars f32\\[8\\]");
  EXPECT_DEATH(update(scalars, three, s.grad, s, {}), "clip f64\\[3\\]");
  EXPECT_DEATH(update(scalars, {}, s.grad, s, short_grad), "rounded f32\\[3\\]");
  EXPECT_DEATH(SetAdamWScalars({}, short_grad), "scalars f32\\[3\\]");
  EXPECT_DEATH(SetAdamWScalars({.step = 0}, scalars), "from 1");
}

}  // namespace
}  // namespace strake
