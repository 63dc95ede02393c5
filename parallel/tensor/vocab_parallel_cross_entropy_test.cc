#include "parallel/tensor/vocab_parallel_cross_entropy.h"

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/tensor/tensor_buffer.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

using testing::AddPieces;
using testing::CopyConvert;
using testing::ExpectCollectives;
using testing::ExpectDryRunPlans;
using testing::FillConstant;
using testing::FillNormal;
using testing::FillTokens;
using testing::GetElement;
using testing::InputOf;
using testing::kNumerics;
using testing::kRankCounts;
using testing::MaxAbs;
using testing::Numerics;
using testing::OnRanks;
using testing::RelativeError;
using testing::SameBits;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;
using testing::UnitRoundoff;

using Kind = CollectiveKind;

constexpr double kScale = 0.25;

VocabSlice SliceOf(int64_t vocab_size, int num_ranks, int rank) {
  return {.vocab_size = vocab_size, .begin = VocabShard(vocab_size, num_ranks, rank).held.begin};
}

// The rank's columns of `full` [N, V], and NaN where the vocabulary is padded.
void SliceLogits(const Tensor& full, int num_ranks, int rank, const Tensor& logits) {
  WeightShards::Vocab(full.shape(), 1, num_ranks).Slice(full, rank, logits);
  const VocabRange vocab = VocabShard(full.dim(1), num_ranks, rank);
  for (int64_t n = 0; n < full.dim(0); ++n) {
    for (int64_t c = vocab.tokens.size(); c < vocab.held.size(); ++c) {
      SetElement(logits, n * vocab.held.size() + c, std::numeric_limits<double>::quiet_NaN());
    }
  }
}

// Logits, and the whole vocabulary's loss and gradient in f64.
struct Whole {
  Whole(DType dtype, int64_t num_tokens, int64_t vocab_size, double softcap)
      : logits(dtype, {num_tokens, vocab_size}),
        targets(DType::kI32, {num_tokens}),
        loss(DType::kF64, {num_tokens}),
        lse(DType::kF64, {num_tokens}),
        gradient(DType::kF64, {num_tokens, vocab_size}) {
    FillNormal(logits, 1, /*scale=*/3);
    FillTokens(targets, 2, vocab_size);
    CopyConvert(logits, gradient);
    const TestContext ctx(OpSet::kReference, 1);
    const VocabSlice all = {.vocab_size = vocab_size};
    EXPECT_TRUE(SoftmaxCrossEntropyForward(ctx, gradient, targets, vocab_size, loss, lse).ok());
    EXPECT_TRUE(
        SoftmaxCrossEntropyBackward(ctx, targets, lse, kScale, softcap, all, gradient).ok());
  }

  // The absolute error bound of loss and lse. An exponential's relative error is the rounding of
  // its argument, of at most 2 max|logit|, and two roundings of its own. The sum of V positive
  // terms adds V roundings, relatively, which the logarithm makes absolute; and the result is
  // rounded. |lse| is at most the largest |logit| plus log(V) < V.
  double ErrorBound() const {
    return (2 * static_cast<double>(logits->dim(1)) + 4 * MaxAbs(logits) + 8) *
           UnitRoundoff(logits->dtype());
  }

  TestTensor logits, targets, loss, lse, gradient;
};

double MaxDifference(const Tensor& a, const Tensor& b) { return RelativeError(a, b) * MaxAbs(b); }

void CompareWithWhole(const Numerics& numerics, int num_ranks, int64_t num_tokens,
                      int64_t vocab_size, double softcap = 0) {
  SCOPED_TRACE(::testing::Message() << DTypeName(numerics.dtype) << ", " << num_ranks << " ranks, "
                                    << num_tokens << " x " << vocab_size);
  const Whole whole(numerics.dtype, num_tokens, vocab_size, softcap);
  const WeightShards shards = WeightShards::Vocab(whole.logits->shape(), 1, num_ranks);
  std::vector<std::unique_ptr<TestTensor>> gradients(num_ranks);
  OnRanks(num_ranks, numerics.op_set, [&](const Mesh& mesh, TestContext& test) -> absl::Status {
    const Context& ctx = test;
    Communicator& group = mesh.communicator(MeshAxis::kTp);
    const VocabSlice slice = SliceOf(vocab_size, num_ranks, mesh.rank());
    gradients[mesh.rank()] = std::make_unique<TestTensor>(numerics.dtype, shards.shard_shape());
    const Tensor logits = *gradients[mesh.rank()];
    SliceLogits(whole.logits, num_ranks, mesh.rank(), logits);
    TestTensor loss(numerics.dtype, {num_tokens}), lse(numerics.dtype, {num_tokens});
    STRAKE_RETURN_IF_ERROR(VocabParallelCrossEntropyForward(ctx, TensorParallel(group), slice,
                                                            logits, whole.targets, loss, lse));
    const int64_t n_bytes = loss->num_bytes();
    ExpectCollectives(mesh,
                      {{Kind::kAllReduceMax, 1, n_bytes}, {Kind::kAllReduceSum, 1, 2 * n_bytes}});
    EXPECT_EQ(ctx.arena().used_bytes(), 0) << "all it allocates is scratch";
    EXPECT_LE(ctx.arena().peak_bytes(), 3 * n_bytes + 2 * kTensorAlignment);
    STRAKE_RETURN_IF_ERROR(group.CheckReplicated(loss, "loss"));
    STRAKE_RETURN_IF_ERROR(group.CheckReplicated(lse, "lse"));
    EXPECT_LE(MaxDifference(loss, whole.loss), whole.ErrorBound());
    EXPECT_LE(MaxDifference(lse, whole.lse), whole.ErrorBound());
    TestTensor both(numerics.dtype, logits.shape()), both_loss(numerics.dtype, {num_tokens});
    CopyConvert(logits, both);
    STRAKE_RETURN_IF_ERROR(
        SoftmaxCrossEntropyBackward(ctx, whole.targets, lse, kScale, softcap, slice, logits));
    ExpectCollectives(mesh, {});
    STRAKE_RETURN_IF_ERROR(VocabParallelCrossEntropyForwardBackward(
        ctx, TensorParallel(group), slice, whole.targets, kScale, softcap, both, both_loss));
    EXPECT_TRUE(SameBits(both, logits));
    EXPECT_TRUE(SameBits(both_loss, loss));
    ExpectCollectives(mesh,
                      {{Kind::kAllReduceMax, 1, n_bytes}, {Kind::kAllReduceSum, 1, 2 * n_bytes}});
    EXPECT_EQ(ctx.arena().used_bytes(), 0);
    return absl::OkStatus();
  });
  TestTensor joined(numerics.dtype, whole.logits->shape());
  FillConstant(joined, 0);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Tensor local = *gradients[rank];
    AddPieces(shards, local, rank, joined);
    const VocabRange vocab = VocabShard(vocab_size, num_ranks, rank);
    for (int64_t i = 0; i < local.num_elements(); ++i) {
      if (i % local.dim(1) < vocab.tokens.size()) continue;
      ASSERT_EQ(GetElement(local, i), 0.) << "padding, " << i << " of rank " << rank;
    }
  }
  // A probability is at most 1. Its relative error is the absolute error of lse, and its
  // exponential's.
  EXPECT_LE(MaxDifference(joined, whole.gradient), kScale * 2 * whole.ErrorBound());
  if (num_tokens > 0 && vocab_size > 1) {
    EXPECT_GT(MaxAbs(whole.gradient), 0.1);
  }
}

TEST(VocabParallelCrossEntropyTest, IsTheWholeVocabularys) {
  for (const Numerics& numerics : kNumerics) {
    for (const int t : kRankCounts) {
      // With one token on 8 ranks, 7 hold padding alone.
      for (const int64_t vocab_size : {1, 5, 24, 257}) {
        CompareWithWhole(numerics, t, 9, vocab_size);
        CompareWithWhole(numerics, t, 9, vocab_size, /*softcap=*/16);  // above all logits
      }
      CompareWithWhole(numerics, t, 0, 24);
    }
    CompareWithWhole(numerics, 4, 2, 50257);
  }
}

TEST(VocabParallelCrossEntropyTest, EqualLogitsCostLogVocabAndLargeOnesDoNotOverflow) {
  constexpr int64_t kVocab = 7;
  TestTensor full(DType::kF32, {2, kVocab}), targets(DType::kI32, {2});
  FillConstant(full, 1e4);
  // The second row's maximum is on the last rank, the first row's target on the first.
  SetElement(full, kVocab + kVocab - 1, 2e4);
  FillConstant(targets, 0);
  OnRanks(3, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    TestTensor logits(DType::kF32, {2, 3}), loss(DType::kF32, {2}), lse(DType::kF32, {2});
    SliceLogits(full, 3, mesh.rank(), logits);
    STRAKE_RETURN_IF_ERROR(VocabParallelCrossEntropyForward(
        ctx, TensorParallel(mesh.communicator(MeshAxis::kTp)), SliceOf(kVocab, 3, mesh.rank()),
        logits, targets, loss, lse));
    EXPECT_FLOAT_EQ(loss->data<float>()[0], std::log(7.f));
    EXPECT_EQ(loss->data<float>()[1], 1e4f);
    EXPECT_EQ(lse->data<float>()[1], 2e4f);
    return absl::OkStatus();
  });
}

// A vocabulary may be padded for one rank too, for aligned products.
TEST(VocabParallelCrossEntropyTest, PaddingOfOneRankTakesNoPart) {
  const TestContext ctx(OpSet::kAuto, 1);
  TestTensor logits(DType::kF32, {1, 4}), targets(DType::kI32, {1}), loss(DType::kF32, {1}),
      lse(DType::kF32, {1});
  FillConstant(logits, 0);
  SetElement(logits, 3, 100);
  FillConstant(targets, 0);
  ASSERT_TRUE(VocabParallelCrossEntropyForward(ctx, TensorParallel(), {.vocab_size = 3}, logits,
                                               targets, loss, lse)
                  .ok());
  EXPECT_FLOAT_EQ(loss->data<float>()[0], std::log(3.f));
}

// Rows 1 and 3 have no target, and row 1 has no finite loss; the others have their bits of a run
// where all have one.
TEST(VocabParallelCrossEntropyTest, ARowWithoutATargetCountsNothing) {
  constexpr int64_t kVocab = 24;
  for (const Numerics& numerics : kNumerics) {
    TestTensor full(numerics.dtype, {4, kVocab}), targets(DType::kI32, {4}), all(DType::kI32, {4});
    FillNormal(full, 1, /*scale=*/3);
    FillTokens(targets, 2, kVocab);
    FillTokens(all, 2, kVocab);
    for (const int n : {1, 3}) targets->data<int32_t>()[n] = kNoTarget;
    SetElement(full, kVocab + 5, std::numeric_limits<double>::quiet_NaN());
    OnRanks(3, numerics.op_set, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp));
      const VocabSlice slice = SliceOf(kVocab, 3, mesh.rank());
      TestTensor logits(numerics.dtype, {4, 8}), expected(numerics.dtype, {4, 8}),
          loss(numerics.dtype, {4}), expected_loss(numerics.dtype, {4});
      SliceLogits(full, 3, mesh.rank(), logits);
      SliceLogits(full, 3, mesh.rank(), expected);
      STRAKE_RETURN_IF_ERROR(VocabParallelCrossEntropyForwardBackward(
          ctx, tp, slice, targets, kScale, /*softcap=*/0, logits, loss));
      STRAKE_RETURN_IF_ERROR(VocabParallelCrossEntropyForwardBackward(
          ctx, tp, slice, all, kScale, /*softcap=*/0, expected, expected_loss));
      for (int64_t n = 0; n < 4; ++n) {
        const Tensor gradient = logits->Rows(n, n + 1);
        if (n % 2 == 1) {
          EXPECT_EQ(GetElement(loss, n), 0.) << n;
          for (int64_t c = 0; c < 8; ++c) EXPECT_EQ(GetElement(gradient, c), 0.) << n;
        } else {
          EXPECT_TRUE(SameBits(loss->Rows(n, n + 1), expected_loss->Rows(n, n + 1))) << n;
          EXPECT_TRUE(SameBits(gradient, expected->Rows(n, n + 1))) << n;
          EXPECT_GT(MaxAbs(gradient), 0);
        }
      }
      return absl::OkStatus();
    });
  }
}

TEST(VocabParallelCrossEntropyTest, TargetsOutsideTheVocabularyAreAnError) {
  TestTensor full(DType::kF32, {2, 5}), targets(DType::kI32, {2});
  FillConstant(full, 0);
  FillConstant(targets, 5);
  OnRanks(3, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    TestTensor logits(DType::kF32, {2, 2}), loss(DType::kF32, {2}), lse(DType::kF32, {2});
    SliceLogits(full, 3, mesh.rank(), logits);
    EXPECT_EQ(
        VocabParallelCrossEntropyForward(ctx, TensorParallel(mesh.communicator(MeshAxis::kTp)),
                                         SliceOf(5, 3, mesh.rank()), logits, targets, loss, lse),
        absl::InvalidArgumentError("[softmax_cross_entropy] target of row 0 of 2 is 5, "
                                   "outside the vocabulary's [0, 5)"));
    return absl::OkStatus();
  });
}

TEST(VocabParallelCrossEntropyTest, TheDryRunPlansWhatTheRunNeeds) {
  constexpr int64_t kTokens = 20, kVocab = 257;
  TestTensor full(DType::kF32, {kTokens, kVocab}), targets(DType::kI32, {kTokens});
  FillNormal(full, 1);
  FillTokens(targets, 2, kVocab);
  for (const int t : {2, 3, 4, 8}) {
    OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
      const VocabSlice slice = SliceOf(kVocab, t, mesh.rank());
      TestTensor logits(DType::kF32, {kTokens, (kVocab + t - 1) / t}), loss(DType::kF32, {kTokens}),
          lse(DType::kF32, {kTokens});
      SliceLogits(full, t, mesh.rank(), logits);
      const auto forward = [&](const TensorParallel& tp, const Context& ctx) {
        return VocabParallelCrossEntropyForward(ctx, tp, slice, InputOf(ctx, logits),
                                                InputOf(ctx, targets), InputOf(ctx, loss),
                                                InputOf(ctx, lse));
      };
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp));
      const TensorParallel planned = TensorParallel::Planned(mesh.rank(), t);
      return ExpectDryRunPlans(
          mesh, [&](const Context& ctx) { return forward(tp, ctx); },
          [&](const Context& ctx) { return forward(planned, ctx); });
    });
  }
}

TEST(VocabParallelCrossEntropyDeathTest, WrongShapesAreNamed) {
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun();
  const auto tensor = [](DType dtype, Shape shape) { return Tensor(nullptr, dtype, shape); };
  EXPECT_DEATH((void)VocabParallelCrossEntropyForward(
                   Context(&team, &plan), TensorParallel::Planned(0, 2), {.vocab_size = 5},
                   tensor(DType::kF32, {4, 3}), tensor(DType::kI32, {3}), tensor(DType::kF32, {4}),
                   tensor(DType::kF32, {4})),
               "\\[softmax_cross_entropy\\] logits f32\\[4, 3\\], targets i32\\[3\\]");
}

}  // namespace
}  // namespace strake
