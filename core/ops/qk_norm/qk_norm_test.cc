#include "core/ops/qk_norm/qk_norm.h"

#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <vector>

#include "core/ops/norm/rms_norm.h"
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
using testing::GetElement;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr double kEps = 1e-3;
constexpr QkNormHeads kHeads = {QkNormKind::kPerHead, 3, 2, 5};
constexpr QkNormHeads kWhole = {QkNormKind::kWhole, 3, 2, 5};

// Tensors of one rank's heads.
struct Problem {
  Problem(DType dtype, const QkNormHeads& h, int64_t rows, double offset = 0)
      : heads(h),
        weight_offset(offset),
        qkv(dtype, {rows, h.num_columns()}),
        query(dtype, {WeightSize(h.num_heads)}),
        key(dtype, {WeightSize(h.num_kv_heads)}),
        y(dtype, {rows, h.num_columns()}),
        raw(dtype, {rows, h.num_normalized()}),
        rstd(AccumulationDType(dtype), {rows, h.num_groups()}),
        sums(AccumulationDType(dtype), {rows, 2}),
        dy(dtype, {rows, h.num_columns()}),
        dqkv(dtype, {rows, h.num_columns()}),
        dquery(AccumulationDType(dtype), query->shape()),
        dkey(AccumulationDType(dtype), key->shape()) {
    FillNormal(qkv, 1);
    FillNormal(query, 2);
    FillNormal(key, 3);
    FillNormal(dy, 4);
    FillConstant(dquery, 0);
    FillConstant(dkey, 0);
  }

  int64_t WeightSize(int64_t num_heads) const {
    return heads.kind == QkNormKind::kWhole ? num_heads * heads.head_dim : heads.head_dim;
  }
  QkNormWeights Weights() const { return {query, key, weight_offset}; }

  // y = the norm of qkv.
  absl::Status Forward(const Context& ctx, const Tensor& forward_sums = {}) {
    CopyConvert(qkv, y);
    return QkNormForward(ctx, heads, Weights(), kEps, forward_sums, y, raw, rstd);
  }
  // dqkv = the gradient of qkv for dy.
  absl::Status Backward(const Context& ctx, const Tensor& backward_sums = {}) {
    CopyConvert(dy, dqkv);
    return QkNormBackward(ctx, heads, Weights(), raw, rstd, backward_sums, dqkv, dquery, dkey);
  }

  QkNormHeads heads;
  double weight_offset;
  TestTensor qkv, query, key, y, raw, rstd, sums, dy, dqkv, dquery, dkey;
};

// Copies `size` elements of each row of `from`, from `column` on.
void CopyColumns(const Tensor& from, int64_t column, int64_t size, const Tensor& to) {
  for (int64_t n = 0; n < from.dim(0); ++n) {
    for (int64_t c = 0; c < size; ++c) {
      SetElement(to, n * size + c, GetElement(from, n * from.dim(1) + column + c));
    }
  }
}

// Compares a group of columns with RMSNorm, both passes.
void ExpectRmsNorm(const Problem& p, int64_t group, int64_t column, const Tensor& weight,
                   const Tensor& dweight) {
  const TestContext ctx;
  const int64_t rows = p.qkv->dim(0), size = weight.dim(0);
  const Shape shape = {rows, size};
  TestTensor x(DType::kF64, shape), y(DType::kF64, shape), dx(DType::kF64, shape),
      rstd(DType::kF64, {rows}), part(DType::kF64, shape), part_rstd(DType::kF64, {rows});
  CopyColumns(p.qkv, column, size, x);
  ASSERT_TRUE(RmsNormForward(ctx, x, {}, weight, kEps, p.weight_offset, {}, y, rstd).ok());
  CopyColumns(p.y, column, size, part);
  EXPECT_LT(RelativeError(part, y), 1e-14) << group;
  CopyColumns(p.rstd, group, 1, part_rstd);
  EXPECT_LT(RelativeError(part_rstd, rstd), 1e-14) << group;
  CopyColumns(p.raw, column, size, part);
  EXPECT_TRUE(SameBits(part, x)) << group;

  CopyColumns(p.dy, column, size, part);
  ASSERT_TRUE(
      RmsNormBackward(ctx, part, x, weight, p.weight_offset, rstd, false, dx, dweight).ok());
  CopyColumns(p.dqkv, column, size, part);
  EXPECT_LT(RelativeError(part, dx), 1e-14) << group;
}

class QkNormTest : public ::testing::TestWithParam<std::tuple<QkNormKind, double>> {
 protected:
  QkNormHeads Heads() const {
    return std::get<QkNormKind>(GetParam()) == QkNormKind::kWhole ? kWhole : kHeads;
  }
  double Offset() const { return std::get<double>(GetParam()); }
};

TEST_P(QkNormTest, IsRmsNormOfEachGroup) {
  const TestContext ctx;
  Problem p(DType::kF64, Heads(), 4, Offset());
  ASSERT_TRUE(p.Forward(ctx).ok());
  ASSERT_TRUE(p.Backward(ctx).ok());
  TestTensor dquery(DType::kF64, p.query->shape()), dkey(DType::kF64, p.key->shape());
  FillConstant(dquery, 0);
  FillConstant(dkey, 0);
  if (p.heads.kind == QkNormKind::kWhole) {
    ExpectRmsNorm(p, 0, 0, p.query, dquery);
    ExpectRmsNorm(p, 1, 15, p.key, dkey);
  } else {
    for (int h = 0; h < 3; ++h) ExpectRmsNorm(p, h, 5 * h, p.query, dquery);
    for (int h = 3; h < 5; ++h) ExpectRmsNorm(p, h, 5 * h, p.key, dkey);
  }
  EXPECT_LT(RelativeError(p.dquery, dquery), 1e-14);
  EXPECT_LT(RelativeError(p.dkey, dkey), 1e-14);
  // The values stay.
  TestTensor before(DType::kF64, {4, 10}), after(DType::kF64, {4, 10});
  CopyColumns(p.qkv, 25, 10, before);
  CopyColumns(p.y, 25, 10, after);
  EXPECT_TRUE(SameBits(after, before));
  CopyColumns(p.dy, 25, 10, before);
  CopyColumns(p.dqkv, 25, 10, after);
  EXPECT_TRUE(SameBits(after, before));
}

TEST_P(QkNormTest, GradientsByComplexStep) {
  const TestContext ctx;
  Problem p(DType::kC128, Heads(), 2, Offset());
  ASSERT_TRUE(p.Forward(ctx).ok());
  ASSERT_TRUE(p.Backward(ctx).ok());
  const auto loss = [&] {
    EXPECT_TRUE(p.Forward(ctx).ok());
    return WeightedSum(p.y, p.dy);
  };
  TestTensor dqkv(DType::kF64, p.qkv->shape()), dquery(DType::kF64, p.query->shape()),
      dkey(DType::kF64, p.key->shape());
  ComplexStepGradient(p.qkv, loss, dqkv);
  ComplexStepGradient(p.query, loss, dquery);
  ComplexStepGradient(p.key, loss, dkey);
  EXPECT_GT(MaxAbs(dqkv), 0.1);
  EXPECT_GT(MaxAbs(dquery), 0.1);
  EXPECT_GT(MaxAbs(dkey), 0.1);
  EXPECT_LT(RelativeError(p.dqkv, dqkv), 1e-13);
  EXPECT_LT(RelativeError(p.dquery, dquery), 1e-13);
  EXPECT_LT(RelativeError(p.dkey, dkey), 1e-13);
}

TEST_P(QkNormTest, F32FollowsF64) {
  for (const auto& [rows, head_dim] : {std::pair{1, 3}, {5, 64}, {17, 100}, {0, 8}, {3, 1}}) {
    const TestContext ctx;
    QkNormHeads heads = Heads();
    heads.head_dim = head_dim;
    Problem f32(DType::kF32, heads, rows, Offset()), f64(DType::kF64, heads, rows, Offset());
    for (Problem* p : {&f32, &f64}) {
      ASSERT_TRUE(p->Forward(ctx).ok());
      ASSERT_TRUE(p->Backward(ctx).ok());
    }
    // The error of a sum of n terms of random sign is about sqrt(n) roundings of its largest
    // partial sums; the six elementwise operations of each term add theirs. The factor 4 is for the
    // tail.
    const auto bound = [](double n) { return 4 * (std::sqrt(n) + 6) * 0x1p-24; };
    const double columns = 3.0 * head_dim, terms = 3.0 * rows;
    EXPECT_LE(RelativeError(f32.y, f64.y), bound(columns)) << rows << " x " << head_dim;
    EXPECT_LE(RelativeError(f32.rstd, f64.rstd), bound(columns)) << rows << " x " << head_dim;
    EXPECT_LE(RelativeError(f32.dqkv, f64.dqkv), bound(columns)) << rows << " x " << head_dim;
    EXPECT_LE(RelativeError(f32.dquery, f64.dquery), bound(terms)) << rows << " x " << head_dim;
    EXPECT_LE(RelativeError(f32.dkey, f64.dkey), bound(terms)) << rows << " x " << head_dim;
  }
}

TEST_P(QkNormTest, TheSameBitsWithAnyNumberOfThreads) {
  QkNormHeads heads = Heads();
  heads.head_dim = 48;
  Problem one(DType::kF32, heads, 65, Offset()), three(DType::kF32, heads, 65, Offset());
  for (Problem* p : {&one, &three}) {
    const TestContext ctx(OpSet::kAuto, p == &one ? 1 : 3);
    ASSERT_TRUE(p->Forward(ctx).ok());
    ASSERT_TRUE(p->Backward(ctx).ok());
  }
  EXPECT_TRUE(SameBits(one.y, three.y));
  EXPECT_TRUE(SameBits(one.raw, three.raw));
  EXPECT_TRUE(SameBits(one.rstd, three.rstd));
  EXPECT_TRUE(SameBits(one.dqkv, three.dqkv));
  EXPECT_TRUE(SameBits(one.dquery, three.dquery));
  EXPECT_TRUE(SameBits(one.dkey, three.dkey));
}

TEST_P(QkNormTest, RawNeedNotBeKept) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    Problem p(dtype, Heads(), 3, Offset());
    ASSERT_TRUE(p.Forward(ctx).ok());
    ASSERT_TRUE(QkNormForward(ctx, p.heads, p.Weights(), kEps, {}, p.qkv, {}, p.rstd).ok());
    EXPECT_TRUE(SameBits(p.qkv, p.y));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, QkNormTest,
    ::testing::Combine(::testing::Values(QkNormKind::kPerHead, QkNormKind::kWhole),
                       ::testing::Values(0, 1)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param) == QkNormKind::kWhole ? "Whole" : "PerHead") +
             (std::get<1>(info.param) == 0 ? "" : "PlusOne");
    });

TEST(QkNormSumsTest, OfOneRankGiveTheSameBits) {
  const TestContext ctx;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kC128}) {
    for (const double offset : {0, 1}) {
      Problem own(dtype, kWhole, 7, offset), given(dtype, kWhole, 7, offset);
      ASSERT_TRUE(own.Forward(ctx).ok());
      ASSERT_TRUE(own.Backward(ctx).ok());
      ASSERT_TRUE(QkNormForwardSums(ctx, kWhole, given.qkv, given.sums).ok());
      ASSERT_TRUE(given.Forward(ctx, given.sums).ok());
      EXPECT_TRUE(SameBits(given.y, own.y));
      EXPECT_TRUE(SameBits(given.rstd, own.rstd));
      ASSERT_TRUE(
          QkNormBackwardSums(ctx, kWhole, given.Weights(), given.raw, given.dy, given.sums).ok());
      ASSERT_TRUE(given.Backward(ctx, given.sums).ok());
      EXPECT_TRUE(SameBits(given.dqkv, own.dqkv));
      EXPECT_TRUE(SameBits(given.dquery, own.dquery));
    }
  }
}

// Two ranks with the same heads and weights have the sums of one, twice.
TEST(QkNormSumsTest, AreOfAllRanks) {
  const TestContext ctx;
  Problem one(DType::kF64, kWhole, 3), two(DType::kF64, kWhole, 3);
  two.heads.num_ranks = 2;
  ASSERT_TRUE(one.Forward(ctx).ok());
  ASSERT_TRUE(one.Backward(ctx).ok());
  const auto doubled = [&] {
    for (int i = 0; i < 6; ++i) two.sums->data<double>()[i] *= 2;
    return two.sums.tensor();
  };
  ASSERT_TRUE(QkNormForwardSums(ctx, two.heads, two.qkv, two.sums).ok());
  ASSERT_TRUE(two.Forward(ctx, doubled()).ok());
  EXPECT_TRUE(SameBits(two.y, one.y));
  ASSERT_TRUE(QkNormBackwardSums(ctx, two.heads, two.Weights(), two.raw, two.dy, two.sums).ok());
  ASSERT_TRUE(two.Backward(ctx, doubled()).ok());
  EXPECT_TRUE(SameBits(two.dqkv, one.dqkv));
}

TEST(QkNormDeathTest, WrongShapesAreNamed) {
  const TestContext ctx;
  Problem p(DType::kF32, kHeads, 2), whole(DType::kF32, kWhole, 2);
  EXPECT_DEATH((void)QkNormForward(ctx, kHeads, p.Weights(), kEps, {}, p.raw, {}, p.rstd),
               "\\[qk_norm\\] 3 query heads and 2 key/value heads of 5, qkv .*f32\\[2, 25\\]");
  EXPECT_DEATH((void)QkNormForward(ctx, kHeads, whole.Weights(), kEps, {}, p.qkv, {}, p.rstd),
               "weights f32\\[15\\] and f32\\[10\\]");
  EXPECT_DEATH((void)QkNormForward(ctx, kHeads, p.Weights(), kEps, {}, p.qkv, {}, whole.rstd),
               "rstd f32\\[2, 2\\]");
  EXPECT_DEATH((void)p.Forward(ctx, p.sums), "per head of 1 ranks, sums f32\\[2, 2\\]");
  whole.heads.num_ranks = 2;
  EXPECT_DEATH((void)whole.Forward(ctx), "whole of 2 ranks, sums undefined");
  EXPECT_DEATH((void)QkNormForwardSums(ctx, kHeads, p.qkv, p.sums), "of single heads");
}

}  // namespace
}  // namespace strake
