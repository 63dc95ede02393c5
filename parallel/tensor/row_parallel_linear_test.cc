#include "parallel/tensor/row_parallel_linear.h"

#include <memory>
#include <optional>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

using testing::ExpectCollectives;
using testing::ExpectDryRunPlans;
using testing::ExpectPartsOfWhole;
using testing::FillSmallIntegers;
using testing::InputOf;
using testing::kNumerics;
using testing::kRankCounts;
using testing::LocalTokens;
using testing::MaxAbs;
using testing::Numerics;
using testing::OnRanks;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WholeLinear;

using Kind = CollectiveKind;

constexpr uint64_t kMicroBatchSeeds[] = {10, 20};

struct Layout {
  int num_ranks;
  bool sequence_parallel = false;
  bool has_bias = true;
  int64_t num_tokens = 24, in = 24, out = 5;
};

// A micro-batch of small integers, whose sums are exact in f32 in any order, through the whole
// layer.
struct MicroBatch {
  MicroBatch(DType dtype, const Layout& layout, uint64_t seed)
      : x(dtype, {layout.num_tokens, layout.in}), dy(dtype, {layout.num_tokens, layout.out}) {
    FillSmallIntegers(x, seed);
    FillSmallIntegers(dy, seed + 1);
  }
  TestTensor x, dy;
  Tensor y, dx;
};

// The whole layer after two micro-batches.
struct Whole : WholeLinear {
  Whole(const Numerics& numerics, const Layout& layout)
      : WholeLinear(numerics, layout.in, layout.out, layout.has_bias) {
    for (const uint64_t seed : kMicroBatchSeeds) {
      MicroBatch& batch =
          *batches.emplace_back(std::make_unique<MicroBatch>(numerics.dtype, layout, seed));
      const Result result = Run(batch.x, batch.dy);
      batch.y = result.y;
      batch.dx = result.dx;
    }
  }

  std::vector<std::unique_ptr<MicroBatch>> batches;
};

WeightShards InputShards(const Tensor& x, int num_ranks) {
  return WeightShards::Split(x.shape(), 1, {{"columns", x.dim(1)}}, num_ranks).value();
}

absl::Status RunMicroBatch(const Mesh& mesh, TestContext& ctx, bool sp, const MicroBatch& batch,
                           const RowParallelLinear& layer) {
  const int64_t y_bytes = batch.dy->num_bytes();
  const WeightShards input = InputShards(batch.x, mesh.num_ranks());
  TestTensor x(batch.x->dtype(), input.shard_shape()), expected_dx(x->dtype(), x->shape());
  input.Slice(batch.x, mesh.rank(), x);
  input.Slice(batch.dx, mesh.rank(), expected_dx);

  RowParallelLinearSaved saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, &saved));
  ExpectCollectives(mesh, {{sp ? Kind::kReduceScatterSum : Kind::kAllReduceSum, 1, y_bytes}});
  EXPECT_TRUE(SameBits(y, LocalTokens(batch.y, mesh, sp)));

  const Tensor dy = LocalTokens(batch.dy, mesh, sp);
  STRAKE_ASSIGN_OR_RETURN(const Tensor dx, layer.BackwardInput(ctx, dy, &saved).Wait());
  if (sp) {
    ExpectCollectives(mesh, {{Kind::kAllGather, 1, y_bytes}});
  } else {
    ExpectCollectives(mesh, {});
  }
  EXPECT_TRUE(SameBits(dx, expected_dx));
  STRAKE_RETURN_IF_ERROR(layer.BackwardWeight(ctx, dy, saved));
  ExpectCollectives(mesh, {});
  return absl::OkStatus();
}

void CompareWithWhole(const Numerics& numerics, const Layout& layout) {
  SCOPED_TRACE(::testing::Message()
               << DTypeName(numerics.dtype) << ", " << layout.num_ranks << " ranks, sp "
               << layout.sequence_parallel << ", " << layout.num_tokens << " tokens");
  const Whole whole(numerics, layout);
  std::vector<std::optional<RowParallelLinear>> layers(layout.num_ranks);
  OnRanks(layout.num_ranks, numerics.op_set,
          [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
            std::optional<RowParallelLinear>& layer = layers[mesh.rank()];
            STRAKE_ASSIGN_OR_RETURN(
                layer, RowParallelLinear::FromFull(whole.weight->value, whole.BiasOrNone(), mesh,
                                                   layout.sequence_parallel));
            ExpectCollectives(mesh, {});
            for (const auto& batch : whole.batches) {
              STRAKE_RETURN_IF_ERROR(
                  RunMicroBatch(mesh, ctx, layout.sequence_parallel, *batch, *layer));
            }
            return absl::OkStatus();
          });
  std::vector<const ParameterRecord*> weights, biases;
  for (const auto& layer : layers) {
    weights.push_back(&layer->own_arena()->RecordOf(layer->weight()));
    ASSERT_EQ(layer->bias() != nullptr, layout.has_bias);
    if (!layout.has_bias) continue;
    // Has its own tokens' terms alone: to be summed over the ranks.
    biases.push_back(&layer->own_arena()->RecordOf(*layer->bias()));
    EXPECT_EQ(biases.back()->segments[0].slice.partial_grad,
              layout.sequence_parallel && layout.num_ranks > 1);
  }
  ASSERT_EQ(MaxAbs(whole.weight->grad) > 0, layout.num_tokens > 0);
  for (Tensor Parameter::*const field : {&Parameter::value, &Parameter::grad}) {
    ExpectPartsOfWhole(weights, whole.arena.RecordOf(*whole.weight), field);
    if (layout.has_bias) ExpectPartsOfWhole(biases, whole.arena.RecordOf(*whole.bias), field);
  }
}

TEST(RowParallelLinearTest, IsTheWholeLayer) {
  for (const Numerics& numerics : kNumerics) {
    for (const int t : kRankCounts) {
      for (const bool sp : {false, true}) {
        CompareWithWhole(numerics, {.num_ranks = t, .sequence_parallel = sp});
        CompareWithWhole(numerics, {.num_ranks = t, .sequence_parallel = sp, .has_bias = false});
        CompareWithWhole(numerics, {.num_ranks = t, .sequence_parallel = sp, .num_tokens = 0});
      }
      CompareWithWhole(numerics, {.num_ranks = t, .num_tokens = 7});
    }
  }
}

// With zero terms, only the bias is left: if every rank added it, there would be T biases.
TEST(RowParallelLinearTest, TheBiasIsAddedOnce) {
  TestTensor weight(DType::kF32, {4, 2}), bias(DType::kF32, {2}), x(DType::kF32, {8, 1});
  FillSmallIntegers(weight, 1);
  testing::FillConstant(bias, 3);
  testing::FillConstant(x, 0);
  for (const bool sp : {false, true}) {
    OnRanks(4, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(const auto layer,
                              RowParallelLinear::FromFull(weight, bias, mesh, sp));
      STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, nullptr));
      EXPECT_EQ(y.shape(), (Shape{sp ? 2 : 8, 2}));
      for (int64_t i = 0; i < y.num_elements(); ++i) EXPECT_EQ(y.data<float>()[i], 3);
      return absl::OkStatus();
    });
  }
}

TEST(RowParallelLinearTest, AnnouncesBiasThenWeight) {
  TestTensor weight(DType::kF32, {4, 3}), bias(DType::kF32, {3}), x(DType::kF32, {2, 2});
  for (const TestTensor* t : {&weight, &bias, &x}) FillSmallIntegers(*t, 1);
  for (const bool sp : {false, true}) {
    OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(const auto layer,
                              RowParallelLinear::FromFull(weight, bias, mesh, sp));
      std::vector<const Parameter*> ready;
      ctx.context().set_on_grad_ready([&](const Parameter& parameter) {
        EXPECT_GT(MaxAbs(parameter.grad), 0) << (&parameter == layer.bias() ? "bias" : "weight");
        ready.push_back(&parameter);
      });
      RowParallelLinearSaved saved;
      STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, &saved));
      STRAKE_RETURN_IF_ERROR(layer.BackwardInput(ctx, y, &saved).Wait().status());
      EXPECT_TRUE(ready.empty());
      STRAKE_RETURN_IF_ERROR(layer.BackwardWeight(ctx, y, saved));
      EXPECT_EQ(ready, (std::vector<const Parameter*>{layer.bias(), &layer.weight()}));
      return absl::OkStatus();
    });
  }
}

TEST(RowParallelLinearTest, WithoutSequenceParallelismEveryRankHasEveryToken) {
  TestTensor weight(DType::kF32, {4, 3}), x(DType::kF32, {1, 2});
  FillSmallIntegers(weight, 1);
  FillSmallIntegers(x, 2);
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer,
                            RowParallelLinear::FromFull(weight, Tensor(), mesh, true));
    STRAKE_ASSIGN_OR_RETURN(const Tensor y,
                            layer.WithoutSequenceParallelism().Forward(ctx, x, nullptr));
    EXPECT_EQ(y.shape(), (Shape{1, 3}));
    ExpectCollectives(mesh, {{Kind::kAllReduceSum, 1, 3 * sizeof(float)}});
    return mesh.communicator(MeshAxis::kTp).CheckReplicated(y, "y");
  });
}

TEST(RowParallelLinearTest, TheDryRunPlansWhatTheRunNeeds) {
  constexpr int64_t kTokens = 24, kIn = 24, kOut = 5;
  TestTensor weight(DType::kF32, {kIn, kOut}), bias(DType::kF32, {kOut});
  FillSmallIntegers(weight, 1);
  FillSmallIntegers(bias, 2);
  for (const int t : kRankCounts) {
    for (const bool sp : {false, true}) {
      OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const auto layer,
                                RowParallelLinear::FromFull(weight, bias, mesh, sp));
        ParameterArena arena;
        Parameter* w = arena.Add({{"weight", kOut}}, {kIn / t, kOut}, true);
        Parameter* b = arena.Add({{"bias", kOut}}, {kOut}, false);
        arena.AllocateDryRun(DType::kF32);
        const RowParallelLinear planned(w, b, TensorParallel::Planned(mesh.rank(), t, sp));
        TestTensor x(DType::kF32, {kTokens, kIn / t});
        FillSmallIntegers(x, 3);
        const auto passes = [&](const RowParallelLinear& l, const Context& ctx) -> absl::Status {
          RowParallelLinearSaved saved;
          STRAKE_ASSIGN_OR_RETURN(const Tensor y, l.Forward(ctx, InputOf(ctx, x), &saved));
          EXPECT_EQ(y.shape(), (Shape{sp ? kTokens / t : kTokens, kOut}));
          STRAKE_RETURN_IF_ERROR(l.BackwardInput(ctx, y, &saved).Wait().status());
          return l.BackwardWeight(ctx, y, saved);
        };
        return ExpectDryRunPlans(
            mesh, [&](const Context& ctx) { return passes(layer, ctx); },
            [&](const Context& ctx) { return passes(planned, ctx); });
      });
    }
  }
}

// All ranks' rows of the product are scratch: only the rank's own are kept for the backward pass.
// The reference product uses no other scratch.
TEST(RowParallelLinearTest, OnlyTheRanksOwnTokensStayAllocated) {
  TestTensor weight(DType::kF32, {4, 16}), x(DType::kF32, {8, 1});
  FillSmallIntegers(weight, 1);
  FillSmallIntegers(x, 2);
  OnRanks(4, OpSet::kReference, [&](const Mesh& mesh, TestContext& test) -> absl::Status {
    const Context& ctx = test;
    STRAKE_ASSIGN_OR_RETURN(const auto layer,
                            RowParallelLinear::FromFull(weight, Tensor(), mesh, true));
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, nullptr));
    EXPECT_EQ(ctx.arena().used_bytes(), y.num_bytes());
    EXPECT_EQ(ctx.arena().peak_bytes(), 5 * y.num_bytes());
    return absl::OkStatus();
  });
}

TEST(RowParallelLinearTest, WhatDoesNotDivideIsAnErrorWithBothNumbers) {
  TestTensor weight(DType::kF32, {10, 3});
  OnRanks(4, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
    EXPECT_EQ(RowParallelLinear::FromFull(weight, Tensor(), mesh).status(),
              absl::InvalidArgumentError(
                  "[shard] 10 rows cannot be divided over 4 tensor-parallel ranks: choose a "
                  "tensor-parallel size that divides 10"));
    return absl::OkStatus();
  });
}

TEST(RowParallelLinearDeathTest, WrongShapesAreNamed) {
  const Mesh mesh = Mesh::SingleRank();
  const TestContext ctx(OpSet::kAuto, 1);
  TestTensor weight(DType::kF32, {3, 4}), short_bias(DType::kF32, {3}), f64_bias(DType::kF64, {4}),
      x(DType::kF32, {2, 4});
  FillSmallIntegers(weight, 1);
  EXPECT_DEATH((void)RowParallelLinear::FromFull(weight, short_bias, mesh),
               "\\[row_parallel_linear\\] weight f32\\[3, 4\\], bias f32\\[3\\]");
  EXPECT_DEATH((void)RowParallelLinear::FromFull(weight, f64_bias, mesh),
               "full f64\\[4\\], shard f32\\[4\\]");
  const auto layer = RowParallelLinear::FromFull(weight, Tensor(), mesh);
  ASSERT_TRUE(layer.ok());
  EXPECT_DEATH((void)layer->Forward(ctx, x, nullptr),
               "\\[linear\\] x f32\\[2, 4\\], weight f32\\[3, 4\\]");
  EXPECT_DEATH(RowParallelLinear(&layer->weight(), &layer->weight(), TensorParallel()),
               "\\[row_parallel_linear\\] weight \\[3, 4\\], bias \\[3, 4\\]");
}

// The gradient of all tokens, in place of the rank's, would count the bias T times.
TEST(RowParallelLinearDeathTest, TheWeightGradientTakesTheRanksOwnTokens) {
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun();
  const Context ctx(&team, &plan);
  ParameterArena arena;
  Parameter* weight = arena.Add({{"weight", 4}}, {3, 4}, true);
  Parameter* bias = arena.Add({{"bias", 4}}, {4}, false);
  arena.AllocateDryRun(DType::kF32);
  const RowParallelLinear layer(weight, bias, TensorParallel::Planned(0, 2, true));
  RowParallelLinearSaved saved;
  const Tensor x(nullptr, DType::kF32, {6, 3});
  const Tensor dy = layer.Forward(ctx, x, &saved).value();
  EXPECT_DEATH((void)layer.BackwardWeight(ctx, dy, saved),
               "dy f32\\[3, 4\\], BackwardInput's of all tokens undefined");
  ASSERT_TRUE(layer.BackwardInput(ctx, dy, &saved).Wait().ok());
  EXPECT_TRUE(layer.BackwardWeight(ctx, dy, saved).ok());
  EXPECT_DEATH((void)layer.BackwardWeight(ctx, saved.dy, saved),
               "dy f32\\[6, 4\\], BackwardInput's of all tokens f32\\[6, 4\\], rank 0 of 2, "
               "sequence-parallel");
}

// Seven tokens cannot be divided over two ranks.
TEST(RowParallelLinearDeathTest, TokensMustDivide) {
  ThreadTeam team(1);
  ActivationArena plan = ActivationArena::DryRun();
  ParameterArena arena;
  Parameter* weight = arena.Add({{"weight", 4}}, {3, 4}, true);
  arena.AllocateDryRun(DType::kF32);
  const RowParallelLinear layer(weight, nullptr, TensorParallel::Planned(0, 2, true));
  EXPECT_DEATH(
      (void)layer.Forward(Context(&team, &plan), Tensor(nullptr, DType::kF32, {7, 3}), nullptr),
      "7 tokens over 2 sequence-parallel ranks");
}

}  // namespace
}  // namespace strake
