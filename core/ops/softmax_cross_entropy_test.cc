#include "core/ops/softmax_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <string>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::CopyConvert;
using testing::FillConstant;
using testing::FillNormal;
using testing::FillTokens;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;

constexpr double kScale = 0.25;

struct Passes {
  Passes(DType dtype, int64_t rows, int64_t columns)
      : logits(dtype, {rows, columns}),
        targets(DType::kI32, {rows}),
        loss(dtype, {rows}),
        lse(dtype, {rows}),
        gradient(dtype, {rows, columns}) {
    FillNormal(logits, 1, 3);
    FillTokens(targets, 2, columns);
  }
  absl::Status Forward(const Context& ctx) {
    return SoftmaxCrossEntropyForward(ctx, logits, targets, loss, lse);
  }
  void Run(const Context& ctx) {
    ASSERT_TRUE(Forward(ctx).ok());
    CopyConvert(logits, gradient);
    ASSERT_TRUE(SoftmaxCrossEntropyBackward(ctx, targets, lse, kScale, gradient).ok());
  }
  TestTensor logits, targets, loss, lse, gradient;
};

TEST(SoftmaxCrossEntropyTest, ClosedForm) {
  const TestContext ctx;
  // Equal logits: a uniform distribution.
  Passes p(DType::kF32, 2, 64);
  FillConstant(p.logits, 5);
  p.Run(ctx);
  for (int n = 0; n < 2; ++n) {
    EXPECT_FLOAT_EQ(p.loss->data<float>()[n], std::log(64.0f));
    EXPECT_FLOAT_EQ(p.lse->data<float>()[n], 5 + std::log(64.0f));
    for (int v = 0; v < 64; ++v) {
      const bool is_target = v == p.targets->data<int32_t>()[n];
      // The rounding of lse, near 9, is a relative error of the probability.
      EXPECT_NEAR(p.gradient->data<float>()[n * 64 + v], kScale * (1.0 / 64 - is_target),
                  (16 + 4) * 0x1p-24 * kScale / 64 + is_target * 0x1p-24);
    }
  }
}

TEST(SoftmaxCrossEntropyTest, GradientByComplexStep) {
  const TestContext ctx;
  Passes p(DType::kC128, 3, 7);
  p.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(p.Forward(ctx).ok());
    std::complex<double> sum = 0;
    for (int n = 0; n < 3; ++n) sum += kScale * p.loss->data<std::complex<double>>()[n];
    return sum;
  };
  TestTensor truth(DType::kF64, {3, 7});
  ComplexStepGradient(p.logits, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.01);
  EXPECT_LT(RelativeError(p.gradient, truth), 1e-13);
}

TEST(SoftmaxCrossEntropyTest, F32FollowsF64) {
  const TestContext ctx;
  for (const auto& [rows, columns] :
       {std::pair{1, 1}, {3, 5}, {17, 100}, {300, 256}, {4, 50257}, {0, 8}}) {
    Passes f32(DType::kF32, rows, columns), f64(DType::kF64, rows, columns);
    CopyConvert(f32.logits, f64.logits);  // rounded alike: the shift is exact in both
    f32.Run(ctx);
    f64.Run(ctx);
    if (rows == 0) continue;
    // In units of 2^-24: a term of the sum errs by the rounding of its shifted logit, below 40
    // here, and 3 of the exponential; all are positive, so the sum of n, in at least 4 lanes,
    // adds at most sqrt(n) roundings. The log turns this relative error into an absolute one.
    const double sum_error = (40 + 3 + std::sqrt(columns)) * 0x1p-24;
    const double absolute = sum_error + 4 * 0x1p-24 * std::max(MaxAbs(f64.lse), 40.0);
    for (int n = 0; n < rows; ++n) {
      EXPECT_NEAR(f32.lse->data<float>()[n], f64.lse->data<double>()[n], absolute);
      EXPECT_NEAR(f32.loss->data<float>()[n], f64.loss->data<double>()[n], absolute);
    }
    // A probability's relative error is the absolute one of logit - lse.
    for (int64_t i = 0; i < f64.gradient->num_elements(); ++i) {
      ASSERT_NEAR(f32.gradient->data<float>()[i], f64.gradient->data<double>()[i],
                  kScale * (absolute + 44 * 0x1p-24));
    }
  }
}

TEST(SoftmaxCrossEntropyTest, LargeLogitsKeepTheLoss) {
  const TestContext ctx;
  for (const float shift : {1e4f, -1e4f}) {
    // Two equal maxima, the rest 2e4 below: exactly log 2 for either, 2e4 more for the others.
    Passes p(DType::kF32, 3, 100);
    FillConstant(p.logits, shift - 2e4);
    for (int n = 0; n < 3; ++n) {
      p.logits->data<float>()[n * 100 + 7] = p.logits->data<float>()[n * 100 + 90] = shift;
      p.targets->data<int32_t>()[n] = n == 0 ? 7 : n == 1 ? 90 : 50;
    }
    p.Run(ctx);
    EXPECT_FLOAT_EQ(p.loss->data<float>()[0], std::log(2.0f));
    EXPECT_FLOAT_EQ(p.loss->data<float>()[1], std::log(2.0f));
    EXPECT_FLOAT_EQ(p.loss->data<float>()[2], 2e4f + std::log(2.0f));
    // lse near 1e4 is rounded to 2^-11, which the probabilities inherit.
    EXPECT_NEAR(p.gradient->data<float>()[90], kScale * 0.5, kScale * 0x1p-11);
    EXPECT_NEAR(p.gradient->data<float>()[7], -kScale * 0.5, kScale * 0x1p-11);
    EXPECT_NEAR(p.gradient->data<float>()[50], 0, 1e-37);
  }
}

TEST(SoftmaxCrossEntropyTest, BackwardUsesTheGivenLse) {
  const TestContext ctx;
  // One shard of a larger vocabulary: its probabilities do not add up to 1.
  Passes p(DType::kF32, 1, 40);
  FillConstant(p.gradient, 3);
  FillConstant(p.lse, 3);
  ASSERT_TRUE(SoftmaxCrossEntropyBackward(ctx, p.targets, p.lse, 2, p.gradient).ok());
  for (int v = 0; v < 40; ++v) {
    EXPECT_EQ(p.gradient->data<float>()[v], v == p.targets->data<int32_t>()[0] ? 0 : 2);
  }
}

TEST(SoftmaxCrossEntropyTest, TheSameBitsWithAnyNumberOfThreads) {
  Passes one(DType::kF32, 133, 257), three(DType::kF32, 133, 257);
  one.Run(TestContext(OpSet::kAuto, 1));
  three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(one.loss, three.loss));
  EXPECT_TRUE(SameBits(one.lse, three.lse));
  EXPECT_TRUE(SameBits(one.gradient, three.gradient));
}

TEST(SoftmaxCrossEntropyTest, NonFiniteLogitsShow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const TestContext ctx;
  for (const float bad : {std::nanf(""), kInfinity}) {
    for (const int v : {0, 5, 66}) {
      Passes p(DType::kF32, 2, 67);
      p.logits->data<float>()[v] = bad;
      p.Run(ctx);
      EXPECT_FALSE(std::isfinite(p.loss->data<float>()[0])) << bad << " at " << v;
      EXPECT_FALSE(std::isfinite(p.gradient->data<float>()[v])) << bad << " at " << v;
      EXPECT_TRUE(std::isfinite(p.loss->data<float>()[1]));
    }
  }
  // A row of nothing but -infinity has no distribution; at the target it is an infinite loss.
  Passes p(DType::kF32, 2, 67);
  for (int v = 0; v < 67; ++v) p.logits->data<float>()[v] = -kInfinity;
  p.logits->data<float>()[67 + p.targets->data<int32_t>()[1]] = -kInfinity;
  ASSERT_TRUE(p.Forward(ctx).ok());
  EXPECT_TRUE(std::isnan(p.loss->data<float>()[0]));
  EXPECT_EQ(p.loss->data<float>()[1], kInfinity);
}

TEST(SoftmaxCrossEntropyTest, TargetsOutsideTheVocabularyAreNamedAndNothingIsWritten) {
  const TestContext ctx;
  for (const int32_t bad : {-1, 5}) {
    Passes p(DType::kF32, 4, 5), untouched(DType::kF32, 4, 5);
    p.targets->data<int32_t>()[2] = bad;
    const absl::Status forward = p.Forward(ctx);
    EXPECT_EQ(forward.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(forward.message(), "[softmax_cross_entropy] target of row 2 of 4 is " +
                                     std::to_string(bad) + ", outside the vocabulary's [0, 5)");
    EXPECT_TRUE(SameBits(p.loss, untouched.loss));
    EXPECT_TRUE(SameBits(p.lse, untouched.lse));
    FillConstant(p.lse, 0);
    EXPECT_EQ(SoftmaxCrossEntropyBackward(ctx, p.targets, p.lse, kScale, p.logits).message(),
              forward.message());
    EXPECT_TRUE(SameBits(p.logits, untouched.logits));
  }
}

TEST(SoftmaxCrossEntropyDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Passes p(DType::kF32, 4, 5);
  TestTensor lse(DType::kF32, {3});
  EXPECT_DEATH((void)SoftmaxCrossEntropyForward(ctx, p.logits, p.targets, p.loss, lse),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 5\\].*lse f32\\[3\\]");
  EXPECT_DEATH((void)SoftmaxCrossEntropyBackward(ctx, p.targets, lse, kScale, p.logits),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 5\\].*lse f32\\[3\\]");
}

}  // namespace
}  // namespace strake
