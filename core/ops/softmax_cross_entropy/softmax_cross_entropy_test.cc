#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "core/ops/softcap/softcap.h"
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
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

constexpr double kScale = 0.25;

struct Passes {
  Passes(DType dtype, int64_t rows, int64_t columns)
      : logits(dtype, {rows, columns}),
        targets(DType::kI32, {rows}),
        loss(AccumulationDType(dtype), {rows}),
        lse(AccumulationDType(dtype), {rows}),
        gradient(dtype, {rows, columns}) {
    FillNormal(logits, 1, 3);
    FillTokens(targets, 2, columns);
  }
  absl::Status Forward(const Context& ctx) const {
    return SoftmaxCrossEntropyForward(ctx, logits, targets, vocab().vocab_size, loss, lse);
  }
  void Run(const Context& ctx) const {
    ASSERT_TRUE(Forward(ctx).ok());
    CopyConvert(logits, gradient);
    ASSERT_TRUE(
        SoftmaxCrossEntropyBackward(ctx, targets, lse, kScale, softcap, vocab(), gradient).ok());
  }
  VocabSlice vocab() const { return {.vocab_size = logits->dim(1)}; }
  TestTensor logits, targets, loss, lse, gradient;
  double softcap = 0;
};

// The same passes with the vocabulary cut into slices of the given widths. The columns beyond it,
// the padding, are NaN.
class SlicedPasses {
 public:
  SlicedPasses(const Passes& whole, const std::vector<int64_t>& widths)
      : whole_(whole),
        rows_(whole.logits->dim(0)),
        max_(SoftmaxMaxDType(whole.logits->dtype()), {rows_}),
        sums_(whole.loss->dtype(), {2, rows_}),
        loss(whole.loss->dtype(), {rows_}),
        lse(whole.loss->dtype(), {rows_}),
        gradient(whole.logits->dtype(), whole.logits->shape()) {
    int64_t begin = 0;
    for (const int64_t width : widths) {
      slices_.push_back({.vocab_size = whole.logits->dim(1), .begin = begin});
      logits_.emplace_back(whole.logits->dtype(), Shape{rows_, width});
      begin += width;
    }
  }

  absl::Status Forward(const Context& ctx) {
    Slice();
    FillConstant(max_, -std::numeric_limits<double>::infinity());
    FillConstant(sums_, 0);
    for (size_t i = 0; i < slices_.size(); ++i) {
      TestTensor max(max_->dtype(), max_->shape());
      const absl::Status status = SoftmaxSliceMax(ctx, logits_[i], slices_[i], max);
      if (!status.ok()) return status;
      for (int64_t n = 0; n < rows_; ++n) {
        SetElement(max_, n, std::max(GetElement(max_, n).real(), GetElement(max, n).real()));
      }
    }
    for (size_t i = 0; i < slices_.size(); ++i) {
      TestTensor sums(sums_->dtype(), sums_->shape());
      const absl::Status status =
          SoftmaxSliceSums(ctx, logits_[i], whole_.targets, slices_[i], max_, sums);
      if (!status.ok()) return status;
      for (int64_t n = 0; n < 2 * rows_; ++n) {
        SetElement(sums_, n, GetElement(sums_, n) + GetElement(sums, n));
      }
    }
    return SoftmaxCrossEntropyFromSums(ctx, whole_.targets, max_, sums_, loss, lse);
  }

  void Run(const Context& ctx) {
    ASSERT_TRUE(Forward(ctx).ok());
    for (size_t i = 0; i < slices_.size(); ++i) {
      ASSERT_TRUE(SoftmaxCrossEntropyBackward(ctx, whole_.targets, lse, kScale, /*softcap=*/0,
                                              slices_[i], logits_[i])
                      .ok());
      const int64_t width = logits_[i]->dim(1);
      for (int64_t at = 0; at < rows_ * width; ++at) {
        const int64_t v = slices_[i].begin + at % width;
        if (v < slices_[i].vocab_size) {
          SetElement(gradient, at / width * slices_[i].vocab_size + v, GetElement(logits_[i], at));
        } else {
          ASSERT_EQ(GetElement(logits_[i], at), 0.0) << "padding " << v;
        }
      }
    }
  }

 private:
  void Slice() {
    for (size_t i = 0; i < slices_.size(); ++i) {
      const int64_t width = logits_[i]->dim(1);
      FillConstant(logits_[i], std::nan(""));
      for (int64_t n = 0; n < rows_; ++n) {
        for (int64_t c = 0; c < slices_[i].NumTokens(width); ++c) {
          SetElement(logits_[i], n * width + c,
                     GetElement(whole_.logits, n * slices_[i].vocab_size + slices_[i].begin + c));
        }
      }
    }
  }

  const Passes& whole_;
  const int64_t rows_;
  std::vector<VocabSlice> slices_;
  std::deque<TestTensor> logits_;  // [N, width]; after Run() the gradient's slices
  TestTensor max_, sums_;

 public:
  TestTensor loss, lse, gradient;
};

// T slices of equal width, the last of them padded.
std::vector<int64_t> EqualWidths(int64_t columns, int64_t num_slices) {
  return std::vector<int64_t>(num_slices, (columns + num_slices - 1) / num_slices);
}

// The largest error of loss and lse for normal logits with standard deviation 3; `order` is the
// number of roundings that the order of the sum may add.
double LossBound(double unit_roundoff, double order, const Tensor& lse) {
  // In units of the roundoff: a term of the sum has the rounding of its shifted logit, below 40
  // here, and 3 of the exponential; all terms are positive. The log turns this relative error into
  // an absolute one.
  return (40 + 3 + order + 4 * std::max(MaxAbs(lse), 40.0)) * unit_roundoff;
}

// The same for the gradient: a probability's relative error is the absolute error of logit - lse.
double GradientBound(double unit_roundoff, double loss_bound) {
  return kScale * (loss_bound + 44 * unit_roundoff);
}

TEST(SoftmaxCrossEntropyTest, ClosedForm) {
  const TestContext ctx;
  // Equal logits give a uniform distribution.
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

TEST(SoftmaxCrossEntropyTest, GradientThroughASoftcapByComplexStep) {
  const TestContext ctx;
  Passes p(DType::kC128, 3, 7);
  p.softcap = 4;
  TestTensor x(DType::kC128, {3, 7}), truth(DType::kF64, {3, 7});
  FillNormal(x, 1, 3);
  const auto loss = [&] {
    EXPECT_TRUE(Softcap(ctx, p.softcap, x, p.logits).ok());
    EXPECT_TRUE(p.Forward(ctx).ok());
    std::complex<double> sum = 0;
    for (int n = 0; n < 3; ++n) sum += kScale * p.loss->data<std::complex<double>>()[n];
    return sum;
  };
  loss();
  p.Run(ctx);
  ComplexStepGradient(x, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.01);
  EXPECT_LT(RelativeError(p.gradient, truth), 1e-13);
}

TEST(SoftmaxCrossEntropyTest, ASoftcapIsAFactorThatEndsAtTheCap) {
  const TestContext ctx;
  Passes plain(DType::kF32, 2, 67), capped(DType::kF32, 2, 67);
  for (const TestTensor* logits : {&plain.logits, &capped.logits}) {
    for (int i = 0; i < 2 * 67; ++i) SetElement(*logits, i, i % 3 == 0 ? 4 : i % 3 - 3);
  }
  capped.softcap = 4;
  plain.Run(ctx);
  capped.Run(ctx);
  for (int i = 0; i < 2 * 67; ++i) {
    const double z = GetElement(plain.logits, i).real(), slope = 1 - z * z / 16;
    const double gradient = slope * GetElement(plain.gradient, i).real();
    // The slope is exact. Two products are rounded.
    EXPECT_NEAR(GetElement(capped.gradient, i).real(), gradient, 2 * 0x1p-24 * std::abs(gradient));
    EXPECT_EQ(GetElement(capped.gradient, i) == 0., i % 3 == 0);
  }
}

TEST(SoftmaxCrossEntropyTest, F32FollowsF64) {
  const TestContext ctx;
  for (const auto& [rows, columns] :
       {std::pair{1, 1}, {3, 5}, {17, 100}, {300, 256}, {4, 50257}, {0, 8}}) {
    Passes f32(DType::kF32, rows, columns), f64(DType::kF64, rows, columns);
    CopyConvert(f32.logits, f64.logits);  // both are rounded alike, so the shift is exact in both
    f32.Run(ctx);
    f64.Run(ctx);
    if (rows == 0) continue;
    // The sum of n positive terms, in at least 4 lanes, adds at most sqrt(n) roundings.
    const double absolute = LossBound(0x1p-24, std::sqrt(columns), f64.lse);
    for (int n = 0; n < rows; ++n) {
      EXPECT_NEAR(f32.lse->data<float>()[n], f64.lse->data<double>()[n], absolute);
      EXPECT_NEAR(f32.loss->data<float>()[n], f64.loss->data<double>()[n], absolute);
    }
    for (int64_t i = 0; i < f64.gradient->num_elements(); ++i) {
      ASSERT_NEAR(f32.gradient->data<float>()[i], f64.gradient->data<double>()[i],
                  GradientBound(0x1p-24, absolute));
    }
  }
}

void ExpectSlicesFollowTheWhole(DType dtype, int64_t rows, int64_t columns,
                                const std::vector<int64_t>& widths) {
  const TestContext ctx;
  Passes whole(DType::kF64, rows, columns), rounded(dtype, rows, columns);
  CopyConvert(rounded.logits, whole.logits);
  whole.Run(ctx);
  SlicedPasses sliced(rounded, widths);
  sliced.Run(ctx);
  // In f64 the truth has an error as large.
  const double u = (dtype == DType::kF64 ? 2 : 1) * UnitRoundoff(dtype);
  const double bound = LossBound(u, std::sqrt(columns) + widths.size(), whole.lse);
  for (int n = 0; n < rows; ++n) {
    EXPECT_NEAR(GetElement(sliced.loss, n).real(), whole.loss->data<double>()[n], bound);
    EXPECT_NEAR(GetElement(sliced.lse, n).real(), whole.lse->data<double>()[n], bound);
  }
  for (int64_t i = 0; i < rows * columns; ++i) {
    ASSERT_NEAR(GetElement(sliced.gradient, i).real(), whole.gradient->data<double>()[i],
                GradientBound(u, bound));
  }
}

TEST(SoftmaxCrossEntropyTest, AnyCutOfTheVocabularyGivesTheWhole) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const int64_t num_slices : {1, 2, 3, 8}) {
      for (const auto& [rows, columns] : {std::pair{3, 1}, {3, 5}, {17, 100}, {0, 8}}) {
        SCOPED_TRACE(::testing::Message() << columns << " in " << num_slices);
        ExpectSlicesFollowTheWhole(dtype, rows, columns, EqualWidths(columns, num_slices));
      }
    }
    // Padding at the end of one slice, in slices of its own, and slices without a column.
    for (const std::vector<int64_t>& widths : std::vector<std::vector<int64_t>>{
             {101}, {100, 28}, {1, 0, 60, 40}, {50, 53, 7, 7}, {128, 128}}) {
      ExpectSlicesFollowTheWhole(dtype, 5, 100, widths);
    }
  }
  ExpectSlicesFollowTheWhole(DType::kF32, 2, 50257, EqualWidths(50257, 4));
}

TEST(SoftmaxCrossEntropyTest, ASingleSliceHasTheBitsOfTheWhole) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    Passes whole(dtype, 9, 67);
    whole.Run(ctx);
    for (const int64_t width : {67, 80}) {
      SlicedPasses sliced(whole, {width});
      sliced.Run(ctx);
      EXPECT_TRUE(SameBits(sliced.loss, whole.loss)) << width;
      EXPECT_TRUE(SameBits(sliced.lse, whole.lse)) << width;
      // A packet's exponential and a single number's may differ in the last bit, and the row's
      // address decides where packets begin.
      if (width == 67) {
        EXPECT_TRUE(SameBits(sliced.gradient, whole.gradient));
      }
    }
  }
}

TEST(SoftmaxCrossEntropyTest, SlicedGradientByComplexStep) {
  const TestContext ctx;
  Passes whole(DType::kC128, 3, 7);
  SlicedPasses sliced(whole, {3, 3, 3, 3});
  sliced.Run(ctx);
  const auto loss = [&] {
    EXPECT_TRUE(sliced.Forward(ctx).ok());
    std::complex<double> sum = 0;
    for (int n = 0; n < 3; ++n) sum += kScale * sliced.loss->data<std::complex<double>>()[n];
    return sum;
  };
  TestTensor truth(DType::kF64, {3, 7});
  ComplexStepGradient(whole.logits, loss, truth);
  EXPECT_GT(MaxAbs(truth), 0.01);
  EXPECT_LT(RelativeError(sliced.gradient, truth), 1e-13);
}

TEST(SoftmaxCrossEntropyTest, SliceMaxAndSumsByHand) {
  const TestContext ctx;
  // Tokens 2, 3 and 4 of 5, one column of padding; the whole vocabulary's maximum is elsewhere.
  const VocabSlice slice = {.vocab_size = 5, .begin = 2};
  TestTensor logits(DType::kF32, {2, 4}), targets(DType::kI32, {2}), max(DType::kF32, {2}),
      sums(DType::kF32, {2, 2});
  for (int i = 0; i < 8; ++i) logits->data<float>()[i] = i % 4 == 3 ? 1e30f : 1;
  logits->data<float>()[1] = 3;
  targets->data<int32_t>()[0] = 3;
  targets->data<int32_t>()[1] = 1;
  ASSERT_TRUE(SoftmaxSliceMax(ctx, logits, slice, max).ok());
  EXPECT_EQ(max->data<float>()[0], 3);
  EXPECT_EQ(max->data<float>()[1], 1);
  FillConstant(max, 5);
  ASSERT_TRUE(SoftmaxSliceSums(ctx, logits, targets, slice, max, sums).ok());
  EXPECT_FLOAT_EQ(sums->data<float>()[0], std::exp(-2.0f) + 2 * std::exp(-4.0f));
  EXPECT_FLOAT_EQ(sums->data<float>()[1], 3 * std::exp(-4.0f));
  EXPECT_EQ(sums->data<float>()[2], -2);
  EXPECT_EQ(sums->data<float>()[3], 0);

  const VocabSlice padding = {.vocab_size = 5, .begin = 6};
  ASSERT_TRUE(SoftmaxSliceSums(ctx, logits, targets, padding, max, sums).ok());
  EXPECT_EQ(MaxAbs(sums), 0);
  ASSERT_TRUE(SoftmaxSliceMax(ctx, logits, padding, max).ok());
  EXPECT_EQ(max->data<float>()[0], -std::numeric_limits<float>::infinity());
}

TEST(SoftmaxCrossEntropyTest, LargeLogitsKeepTheLoss) {
  const TestContext ctx;
  for (const float shift : {1e4f, -1e4f}) {
    // Two equal maxima, the rest 2e4 below: the loss is exactly log 2 for either, and 2e4 more for
    // the others.
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
  // Probabilities whose sum is not 1.
  Passes p(DType::kF32, 1, 40);
  FillConstant(p.gradient, 3);
  FillConstant(p.lse, 3);
  ASSERT_TRUE(
      SoftmaxCrossEntropyBackward(ctx, p.targets, p.lse, 2, /*softcap=*/0, p.vocab(), p.gradient)
          .ok());
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
  SlicedPasses sliced_one(one, {129, 129}), sliced_three(three, {129, 129});
  sliced_one.Run(TestContext(OpSet::kAuto, 1));
  sliced_three.Run(TestContext(OpSet::kAuto, 3));
  EXPECT_TRUE(SameBits(sliced_one.loss, sliced_three.loss));
  EXPECT_TRUE(SameBits(sliced_one.gradient, sliced_three.gradient));
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
      SlicedPasses sliced(p, {40, 40});
      sliced.Run(ctx);
      EXPECT_FALSE(std::isfinite(sliced.loss->data<float>()[0])) << bad << " at " << v;
      EXPECT_FALSE(std::isfinite(sliced.gradient->data<float>()[v])) << bad << " at " << v;
      EXPECT_TRUE(std::isfinite(sliced.loss->data<float>()[1]));
    }
  }
  // A row of only -infinity has no distribution; a target of -infinity has an infinite loss.
  Passes p(DType::kF32, 2, 67);
  for (int v = 0; v < 67; ++v) p.logits->data<float>()[v] = -kInfinity;
  p.logits->data<float>()[67 + p.targets->data<int32_t>()[1]] = -kInfinity;
  ASSERT_TRUE(p.Forward(ctx).ok());
  EXPECT_TRUE(std::isnan(p.loss->data<float>()[0]));
  EXPECT_EQ(p.loss->data<float>()[1], kInfinity);
}

// Rows 1, 2 and 5 of 6 have no target; `bad` is in their logits.
void TakeSomeTargets(double bad, Passes* p) {
  for (const int64_t n : {1, 2, 5}) {
    p->targets->data<int32_t>()[n] = kNoTarget;
    for (const int64_t v : {0, 17, 63}) SetElement(p->logits, n * 64 + v, bad);
  }
}

// Expects the passes' results to be 0 there, and elsewhere those of a run without such rows.
template <typename Run>
void ExpectRowsWithoutATargetCountNothing(const Run& run, const Passes& p) {
  Passes others(p.logits->dtype(), 3, 64);
  others.softcap = p.softcap;
  constexpr int64_t kOthers[] = {0, 3, 4};
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t n = kOthers[i];
    CopyConvert(p.logits->Rows(n, n + 1), others.logits->Rows(i, i + 1));
    others.targets->data<int32_t>()[i] = p.targets->data<int32_t>()[n];
  }
  const auto [loss, gradient] = run(p);
  const auto [other_loss, other_gradient] = run(others);
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t n = kOthers[i];
    EXPECT_TRUE(SameBits(loss.Rows(n, n + 1), other_loss.Rows(i, i + 1))) << n;
    EXPECT_TRUE(SameBits(gradient.Rows(n, n + 1), other_gradient.Rows(i, i + 1))) << n;
    EXPECT_GT(MaxAbs(gradient.Rows(n, n + 1)), 0.01);
  }
  const TestTensor zero(loss.dtype(), {1}), zeros(gradient.dtype(), {1, 64});
  FillConstant(zero, 0);
  FillConstant(zeros, 0);
  for (const int64_t n : {1, 2, 5}) {
    EXPECT_TRUE(SameBits(loss.Rows(n, n + 1), zero)) << n;
    EXPECT_TRUE(SameBits(gradient.Rows(n, n + 1), zeros)) << n;
  }
}

TEST(SoftmaxCrossEntropyTest, ARowWithoutATargetCountsNothing) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64, DType::kC128}) {
    for (const double bad : {1.0, std::nan(""), std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()}) {
      for (const double softcap : {0, 16}) {
        SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << ", " << bad << ", " << softcap);
        Passes p(dtype, 6, 64);
        p.softcap = softcap;
        TakeSomeTargets(bad, &p);
        ExpectRowsWithoutATargetCountNothing(
            [&](const Passes& passes) {
              passes.Run(ctx);
              return std::pair<Tensor, Tensor>(passes.loss, passes.gradient);
            },
            p);
        ExpectRowsWithoutATargetCountNothing(
            [&](const Passes& passes) {
              CopyConvert(passes.logits, passes.gradient);
              EXPECT_TRUE(SoftmaxCrossEntropyForwardBackward(ctx, passes.targets, 64, kScale,
                                                             softcap, passes.gradient, passes.loss,
                                                             passes.lse)
                              .ok());
              return std::pair<Tensor, Tensor>(passes.loss, passes.gradient);
            },
            p);
        if (softcap != 0) continue;
        std::deque<SlicedPasses> sliced;  // outlives its tensors
        ExpectRowsWithoutATargetCountNothing(
            [&](const Passes& passes) {
              sliced.emplace_back(passes, std::vector<int64_t>{32, 16, 32}).Run(ctx);
              return std::pair<Tensor, Tensor>(sliced.back().loss, sliced.back().gradient);
            },
            p);
      }
    }
  }
}

TEST(SoftmaxCrossEntropyTest, TargetsOutsideTheVocabularyAreNamedAndNothingIsWritten) {
  const TestContext ctx;
  for (const int32_t bad : {-2, 5}) {
    Passes p(DType::kF32, 4, 5), untouched(DType::kF32, 4, 5);
    p.targets->data<int32_t>()[2] = bad;
    const absl::Status forward = p.Forward(ctx);
    EXPECT_EQ(forward.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(forward.message(), "[softmax_cross_entropy] target of row 2 of 4 is " +
                                     std::to_string(bad) + ", outside the vocabulary's [0, 5)");
    EXPECT_TRUE(SameBits(p.loss, untouched.loss));
    EXPECT_TRUE(SameBits(p.lse, untouched.lse));
    FillConstant(p.lse, 0);
    EXPECT_EQ(SoftmaxCrossEntropyBackward(ctx, p.targets, p.lse, kScale, /*softcap=*/0, p.vocab(),
                                          p.logits)
                  .message(),
              forward.message());
    EXPECT_TRUE(SameBits(p.logits, untouched.logits));
  }
}

TEST(SoftmaxCrossEntropyTest, EverySliceNamesTheSameTarget) {
  const TestContext ctx;
  Passes p(DType::kF32, 4, 5);
  p.targets->data<int32_t>()[2] = 5;
  const absl::Status whole = p.Forward(ctx);
  TestTensor max(DType::kF32, {4}), sums(DType::kF32, {2, 4}), untouched(DType::kF32, {2, 4});
  FillConstant(max, 0);
  // The last slice holds only padding.
  for (const int64_t begin : {0, 3, 6}) {
    const VocabSlice slice = {.vocab_size = 5, .begin = begin};
    EXPECT_EQ(SoftmaxSliceSums(ctx, p.logits, p.targets, slice, max, sums), whole);
    EXPECT_EQ(
        SoftmaxCrossEntropyBackward(ctx, p.targets, max, kScale, /*softcap=*/0, slice, p.logits),
        whole);
    EXPECT_TRUE(SameBits(sums, untouched));
  }
}

TEST(SoftmaxCrossEntropyDeathTest, WrongSliceShapesAreNamed) {
  const TestContext ctx;
  Passes p(DType::kF32, 4, 5);
  TestTensor max(DType::kF32, {4}), sums(DType::kF32, {2, 4}), short_max(DType::kF32, {3}),
      wide_max(DType::kF64, {4}), flat(DType::kF32, {4});
  EXPECT_DEATH((void)SoftmaxSliceMax(ctx, p.logits, p.vocab(), short_max),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 5\\], max f32\\[3\\]");
  EXPECT_DEATH((void)SoftmaxSliceMax(ctx, p.logits, p.vocab(), wide_max), "max f64\\[4\\]");
  EXPECT_DEATH((void)SoftmaxSliceMax(ctx, p.logits, {.vocab_size = 5, .begin = -1}, max),
               "logits f32\\[4, 5\\], slice from -1 of 5");
  EXPECT_DEATH((void)SoftmaxSliceSums(ctx, p.logits, p.targets, p.vocab(), max, flat),
               "max f32\\[4\\], sums f32\\[4\\]");
  EXPECT_DEATH((void)SoftmaxCrossEntropyFromSums(ctx, p.targets, max, sums, flat, short_max),
               "loss f32\\[4\\], lse f32\\[3\\]");
}

// The contents of the padding have no effect.
TEST(SoftmaxCrossEntropyTest, PaddingTakesNoPart) {
  const TestContext ctx;
  constexpr int64_t kRows = 4, kVocab = 5, kColumns = 8;
  Passes p(DType::kF32, kRows, kVocab);
  p.Run(ctx);
  const TestTensor padded(DType::kF32, {kRows, kColumns}), loss(DType::kF32, {kRows}),
      lse(DType::kF32, {kRows});
  FillConstant(padded, 1e30);
  for (int64_t n = 0; n < kRows; ++n) {
    for (int64_t v = 0; v < kVocab; ++v) {
      SetElement(padded, n * kColumns + v, GetElement(p.logits, n * kVocab + v));
    }
  }
  ASSERT_TRUE(SoftmaxCrossEntropyForwardBackward(ctx, p.targets, kVocab, kScale, /*softcap=*/0,
                                                 padded, loss, lse)
                  .ok());
  EXPECT_TRUE(SameBits(loss, p.loss));
  EXPECT_TRUE(SameBits(lse, p.lse));
  for (int64_t n = 0; n < kRows; ++n) {
    for (int64_t v = 0; v < kColumns; ++v) {
      EXPECT_EQ(GetElement(padded, n * kColumns + v),
                v < kVocab ? GetElement(p.gradient, n * kVocab + v) : 0);
    }
  }
}

TEST(SoftmaxCrossEntropyDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Passes p(DType::kF32, 4, 5);
  TestTensor lse(DType::kF32, {3});
  EXPECT_DEATH((void)SoftmaxCrossEntropyForward(ctx, p.logits, p.targets, 5, p.loss, lse),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 5\\].*lse f32\\[3\\]");
  EXPECT_DEATH((void)SoftmaxCrossEntropyForward(ctx, p.logits, p.targets, 6, p.loss, p.lse),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 5\\] of a vocabulary of 6");
  EXPECT_DEATH((void)SoftmaxCrossEntropyBackward(ctx, p.targets, lse, kScale, /*softcap=*/0,
                                                 p.vocab(), p.logits),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 5\\].*lse f32\\[3\\]");
}

}  // namespace
}  // namespace strake
