#include "core/ops/clip_scale/clip_scale.h"

#include <cmath>
#include <cstdint>

#include "core/base/exact_sum.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::TestContext;
using testing::TestTensor;

struct Clip {
  double norm, scale;
};

// sum = an exact sum.
void SetSum(const Tensor& sum, double value) {
  FillConstant(sum, 0);
  AddToExactSum(value, sum.data<int64_t>());
}

Clip Of(double sum_of_squares, double clip_norm, double scale = 1) {
  const TestContext ctx;
  const TestTensor sum(DType::kI64, {kExactSumLimbs}), grad_scale(DType::kF64, {1}),
      clip(DType::kF64, {2});
  SetSum(sum, sum_of_squares);
  FillConstant(grad_scale, scale);
  EXPECT_TRUE(ClipScale(ctx, sum, clip_norm, clip, scale == 1 ? Tensor() : grad_scale).ok());
  return {clip->data<double>()[0], clip->data<double>()[1]};
}

TEST(ClipScaleTest, ScalesToTheNorm) {
  const Clip clip = Of(16, 1);
  EXPECT_EQ(clip.norm, 4);
  EXPECT_EQ(clip.scale, 1 / (4 + 1e-6));
}

TEST(ClipScaleTest, NeverEnlarges) {
  EXPECT_EQ(Of(16, 5).scale, 1);
  EXPECT_EQ(Of(0, 1).scale, 1);
  EXPECT_EQ(Of(0, 1).norm, 0);
}

TEST(ClipScaleTest, ZeroIsNoClipping) {
  EXPECT_EQ(Of(16, 0).scale, 1);
  EXPECT_EQ(Of(16, 0).norm, 4);
}

TEST(ClipScaleTest, ClipsTheNormOfScaledGradients) {
  EXPECT_EQ(Of(16, 1, 0.5).norm, 2);
  EXPECT_EQ(Of(16, 1, 0.5).scale, 0.5 / (2 + 1e-6));
  EXPECT_EQ(Of(16, 3, 0.5).scale, 0.5);  // 4 is above, and 2 below
  EXPECT_EQ(Of(16, 5, 2).scale, 2 * (5 / (8 + 1e-6)));
  EXPECT_EQ(Of(16, 0, 2).scale, 2);
  EXPECT_EQ(Of(16, 0, 2).norm, 8);
  EXPECT_TRUE(std::isnan(Of(NAN, 1, 2).scale));
  EXPECT_EQ(Of(INFINITY, 1, 2).scale, 0);
}

TEST(ClipScaleTest, AScaleOfOneMovesNoBit) {
  const TestContext ctx;
  const TestTensor sum(DType::kI64, {kExactSumLimbs}), one(DType::kF64, {1}),
      clip(DType::kF64, {2});
  FillConstant(one, 1);
  for (const double square : {0.3, 7.7, 1e-9, 1e79}) {
    SetSum(sum, square);
    for (const double clip_norm : {0., 0.7, 1e200}) {
      ASSERT_TRUE(ClipScale(ctx, sum, clip_norm, clip, one).ok());
      const Clip plain = Of(square, clip_norm);
      EXPECT_EQ(clip->data<double>()[0], plain.norm);
      EXPECT_EQ(clip->data<double>()[1], plain.scale);
    }
  }
}

// An all-reduce leaves such sums: a digit of the limb above is in the one below.
TEST(ClipScaleTest, TheSumMayHoldCarries) {
  const TestContext ctx;
  const TestTensor sum(DType::kI64, {kExactSumLimbs}), clip(DType::kF64, {2});
  SetSum(sum, 16);
  for (int k = 1; k < kExactSumDigits; ++k) {
    int64_t* limbs = sum->data<int64_t>();
    if (limbs[k] == 0) continue;
    --limbs[k];
    limbs[k - 1] += int64_t{1} << 32;
  }
  ASSERT_TRUE(ClipScale(ctx, sum, 0, clip).ok());
  EXPECT_EQ(clip->data<double>()[0], 4);
}

TEST(ClipScaleTest, WhatIsNotFiniteShows) {
  EXPECT_TRUE(std::isnan(Of(NAN, 1).norm));
  EXPECT_TRUE(std::isnan(Of(NAN, 1).scale));
  EXPECT_TRUE(std::isnan(Of(NAN, 0).norm));
  EXPECT_EQ(Of(INFINITY, 1).norm, INFINITY);
  EXPECT_EQ(Of(INFINITY, 1).scale, 0);
}

TEST(ClipScaleDeathTest, WrongArgumentsAreNamed) {
  const TestContext ctx;
  const TestTensor sum(DType::kI64, {kExactSumLimbs}), f64_sum(DType::kF64, {1}),
      clip(DType::kF64, {2}), f32(DType::kF32, {2}), f32_scale(DType::kF32, {1});
  EXPECT_DEATH((void)ClipScale(ctx, sum, 1, f32),
               "\\[clip_scale\\] sum i64\\[20\\], clip f32\\[2\\]");
  EXPECT_DEATH((void)ClipScale(ctx, f64_sum, 1, clip), "sum f64\\[1\\]");
  EXPECT_DEATH((void)ClipScale(ctx, sum, 1, clip, f32_scale), "grad_scale f32\\[1\\]");
  EXPECT_DEATH((void)ClipScale(ctx, sum, -1, clip), "clip_norm");
}

}  // namespace
}  // namespace strake
