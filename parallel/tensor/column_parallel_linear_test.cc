#include "parallel/tensor/column_parallel_linear.h"

#include <future>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {
namespace {

using testing::AddPieces;
using testing::ExpectCollectives;
using testing::ExpectDryRunPlans;
using testing::ExpectPartsOfWhole;
using testing::FillConstant;
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

constexpr uint64_t kMicroBatchSeeds[] = {10, 40};

struct Layout {
  int num_ranks;
  bool sequence_parallel = false;
  bool has_bias = true;
  int64_t num_tokens = 24, in = 5, out = 24;
  std::vector<ShardSegment> segments = {};

  std::vector<ShardSegment> SegmentsOrOne() const {
    return segments.empty() ? std::vector<ShardSegment>{{"columns", out}} : segments;
  }
  WeightShards ShardsOf(const Shape& shape) const {
    auto shards = WeightShards::Split(shape, -1, SegmentsOrOne(), num_ranks);
    EXPECT_TRUE(shards.ok()) << shards.status();
    return *std::move(shards);
  }
};

// A micro-batch of small integers: every sum is exact in f32, in any order. A replicated column's
// gradient on a rank is one term of it.
struct MicroBatch {
  MicroBatch(DType dtype, const Layout& layout, const WeightShards& output, uint64_t seed)
      : x(dtype, {layout.num_tokens, layout.in}), dy(dtype, output.full_shape()) {
    FillSmallIntegers(x, seed);
    FillConstant(dy, 0);
    for (int rank = 0; rank < layout.num_ranks; ++rank) {
      local_dy.push_back(std::make_unique<TestTensor>(dtype, output.shard_shape()));
      FillSmallIntegers(*local_dy.back(), seed + 1 + rank);
      AddPieces(output, *local_dy.back(), rank, dy);
    }
  }
  TestTensor x, dy;
  std::vector<std::unique_ptr<TestTensor>> local_dy;  // by rank
  Tensor y, dx;                                       // of the whole layer
};

// The whole layer after two micro-batches.
struct Whole : WholeLinear {
  Whole(const Numerics& numerics, const Layout& layout, const WeightShards& output)
      : WholeLinear(numerics, layout.in, layout.out, layout.has_bias) {
    for (const uint64_t seed : kMicroBatchSeeds) {
      MicroBatch& batch =
          *batches.emplace_back(std::make_unique<MicroBatch>(numerics.dtype, layout, output, seed));
      const Result result = Run(batch.x, batch.dy);
      batch.y = result.y;
      batch.dx = result.dx;
    }
  }

  std::vector<std::unique_ptr<MicroBatch>> batches;
};

absl::Status RunMicroBatch(const Mesh& mesh, TestContext& ctx, const Layout& layout,
                           const WeightShards& output, const MicroBatch& batch,
                           const ColumnParallelLinear& layer) {
  const bool sp = layout.sequence_parallel;
  const int64_t x_bytes = batch.x->num_bytes();
  const int rank = mesh.rank();
  LinearSaved saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor y,
                          layer.Forward(ctx, LocalTokens(batch.x, mesh, sp), &saved));
  if (sp) {
    ExpectCollectives(mesh, {{Kind::kAllGather, 1, x_bytes}});
  } else {
    ExpectCollectives(mesh, {});
  }
  TestTensor expected_y(y.dtype(), output.shard_shape());
  output.Slice(batch.y, rank, expected_y);
  EXPECT_TRUE(SameBits(y, expected_y));

  const Tensor& dy = *batch.local_dy[rank];
  Pending<Tensor> pending_dx = layer.BackwardInput(ctx, dy, &saved);
  ExpectCollectives(mesh, {{sp ? Kind::kReduceScatterSum : Kind::kAllReduceSum, 1, x_bytes}});
  STRAKE_RETURN_IF_ERROR(layer.BackwardWeight(ctx, dy, saved));
  ExpectCollectives(mesh, {});
  STRAKE_ASSIGN_OR_RETURN(const Tensor dx, pending_dx.Wait());
  EXPECT_TRUE(SameBits(dx, LocalTokens(batch.dx, mesh, sp)));
  return absl::OkStatus();
}

void CompareWithWhole(const Numerics& numerics, const Layout& layout) {
  SCOPED_TRACE(::testing::Message()
               << DTypeName(numerics.dtype) << ", " << layout.num_ranks << " ranks, sp "
               << layout.sequence_parallel << ", " << layout.num_tokens << " tokens");
  const WeightShards output = layout.ShardsOf({layout.num_tokens, layout.out});
  const Whole whole(numerics, layout, output);
  std::vector<std::optional<ColumnParallelLinear>> layers(layout.num_ranks);
  OnRanks(layout.num_ranks, numerics.op_set,
          [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
            STRAKE_ASSIGN_OR_RETURN(
                layers[mesh.rank()],
                ColumnParallelLinear::FromFull(whole.weight->value, whole.BiasOrNone(), mesh,
                                               layout.sequence_parallel, layout.segments));
            ExpectCollectives(mesh, {});
            for (const auto& batch : whole.batches) {
              STRAKE_RETURN_IF_ERROR(
                  RunMicroBatch(mesh, ctx, layout, output, *batch, *layers[mesh.rank()]));
            }
            return absl::OkStatus();
          });
  std::vector<const ParameterRecord*> weights, biases;
  for (const auto& layer : layers) {
    weights.push_back(&layer->own_arena()->RecordOf(layer->weight()));
    ASSERT_EQ(layer->bias() != nullptr, layout.has_bias);
    if (layout.has_bias) biases.push_back(&layer->own_arena()->RecordOf(*layer->bias()));
  }
  ASSERT_EQ(MaxAbs(whole.weight->grad) > 0, layout.num_tokens > 0);
  for (Tensor Parameter::*const field : {&Parameter::value, &Parameter::grad}) {
    ExpectPartsOfWhole(weights, whole.arena.RecordOf(*whole.weight), field);
    if (layout.has_bias) ExpectPartsOfWhole(biases, whole.arena.RecordOf(*whole.bias), field);
  }
}

TEST(ColumnParallelLinearTest, IsTheWholeLayer) {
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

TEST(ColumnParallelLinearTest, FusedSegmentsWithReplicatedKeyValueHeads) {
  constexpr int64_t kHeads = 24, kHeadDim = 2;
  for (const Numerics& numerics : kNumerics) {
    for (const int t : kRankCounts) {
      for (const int64_t kv : {1, 2, 3, 4, 8, 24}) {
        if (t % kv != 0 && kv % t != 0) continue;
        CompareWithWhole(numerics, {.num_ranks = t,
                                    .sequence_parallel = kv % 2 == 0,
                                    .out = (kHeads + 2 * kv) * kHeadDim,
                                    .segments = QkvSegments(kHeads, kv, kHeadDim)});
      }
      CompareWithWhole(numerics, {.num_ranks = t, .out = 48, .segments = GateUpSegments(24)});
    }
  }
}

// A language model's head, [V, C], whose rows are the token embedding's.
struct Head {
  Head(int64_t vocab_size, int64_t in, const TensorParallel& tp, WeightOwnership ownership)
      : shards(WeightShards::Vocab({vocab_size, in}, 0, tp.size(), /*multiple=*/1)),
        weight(AddShardedParameter({{"head", in, true}}, shards, tp, true, {}, &arena)),
        layer(weight, nullptr, tp, /*transposed=*/true, ownership) {}

  ParameterArena arena;
  WeightShards shards;
  Parameter* weight;
  ColumnParallelLinear layer;
};

void CompareHeadWithWhole(int num_ranks, int64_t vocab_size) {
  SCOPED_TRACE(::testing::Message() << num_ranks << " ranks, vocabulary of " << vocab_size);
  constexpr int64_t kTokens = 3, kIn = 2;
  Head whole(vocab_size, kIn, TensorParallel(), WeightOwnership::kOwned);
  ASSERT_TRUE(whole.arena.Allocate(DType::kF32, true).ok());
  FillSmallIntegers(whole.weight->value, 1);
  TestTensor x(DType::kF32, {kTokens, kIn}), dy(DType::kF32, {kTokens, vocab_size});
  FillSmallIntegers(x, 2);
  FillSmallIntegers(dy, 3);
  const TestContext whole_ctx(OpSet::kAuto, 1);
  LinearSaved whole_saved;
  const Linear linear(whole.weight, nullptr, true);
  const Tensor whole_y = linear.Forward(whole_ctx, x, &whole_saved).value();
  const Tensor whole_dx = linear.BackwardInput(whole_ctx, dy, &whole_saved).Wait().value();
  ASSERT_TRUE(linear.BackwardWeight(whole_ctx, dy, whole_saved).ok());

  const WeightShards output =
      WeightShards::Vocab({kTokens, vocab_size}, 1, num_ranks, /*multiple=*/1);
  std::vector<std::unique_ptr<Head>> heads(num_ranks);
  OnRanks(num_ranks, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    const int rank = mesh.rank();
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp));
    heads[rank] = std::make_unique<Head>(vocab_size, kIn, tp, WeightOwnership::kOwned);
    Head& head = *heads[rank];
    STRAKE_RETURN_IF_ERROR(head.arena.Allocate(DType::kF32, true));
    head.shards.Slice(whole.weight->value, rank, head.weight->value);
    LinearSaved saved;
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, head.layer.Forward(ctx, x, &saved));
    TestTensor expected_y(DType::kF32, output.shard_shape()), local_dy(DType::kF32, y.shape());
    output.Slice(whole_y, rank, expected_y);
    output.Slice(dy, rank, local_dy);
    // Logits of padding are 0 with either sign.
    EXPECT_EQ(testing::RelativeError(y, expected_y), 0);
    Pending<Tensor> dx = head.layer.BackwardInput(ctx, local_dy, &saved);
    STRAKE_RETURN_IF_ERROR(head.layer.BackwardWeight(ctx, local_dy, saved));
    EXPECT_TRUE(SameBits(dx.Wait().value(), whole_dx));
    return absl::OkStatus();
  });
  std::vector<const ParameterRecord*> parts;
  for (const auto& head : heads) parts.push_back(&head->arena.RecordOf(*head->weight));
  for (Tensor Parameter::*const field : {&Parameter::value, &Parameter::grad}) {
    ExpectPartsOfWhole(parts, whole.arena.RecordOf(*whole.weight), field);
  }
}

TEST(ColumnParallelLinearTest, TransposedHeadOfAPaddedVocabulary) {
  for (const int t : kRankCounts) {
    // Where V < T, ranks hold padding alone.
    for (const int64_t vocab_size : {1, 5, 257}) CompareHeadWithWhole(t, vocab_size);
  }
  CompareHeadWithWhole(3, 50257);
}

// Rank 1 does not join rank 0's all-reduce before rank 0 has its weight gradient: a BackwardInput
// that waited would never return.
TEST(ColumnParallelLinearTest, TheInputGradientIsReducedDuringTheWeightGradient) {
  for (const bool sp : {false, true}) {
    TestTensor weight(DType::kF32, {3, 4}), x(DType::kF32, {6, 3}), dy(DType::kF32, {6, 2});
    for (const TestTensor* t : {&weight, &x, &dy}) FillSmallIntegers(*t, 1);
    std::promise<void> weight_gradient_done;
    OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(const auto layer,
                              ColumnParallelLinear::FromFull(weight, Tensor(), mesh, sp));
      LinearSaved saved;
      STRAKE_RETURN_IF_ERROR(layer.Forward(ctx, LocalTokens(x, mesh, sp), &saved).status());
      mesh.communicator(MeshAxis::kTp).ClearStats();
      if (mesh.rank() == 1) weight_gradient_done.get_future().wait();
      Pending<Tensor> dx = layer.BackwardInput(ctx, dy, &saved);
      EXPECT_EQ(mesh.communicator(MeshAxis::kTp).stats().Total().calls, 1);
      const absl::Status status = layer.BackwardWeight(ctx, dy, saved);
      EXPECT_GT(MaxAbs(layer.weight().grad), 0);
      if (mesh.rank() == 0) weight_gradient_done.set_value();
      STRAKE_RETURN_IF_ERROR(status);
      return dx.Wait().status();
    });
  }
}

TEST(ColumnParallelLinearTest, AnnouncesBiasThenWeight) {
  TestTensor weight(DType::kF32, {3, 4}), bias(DType::kF32, {4}), x(DType::kF32, {2, 3});
  for (const TestTensor* t : {&weight, &bias, &x}) FillSmallIntegers(*t, 1);
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer, ColumnParallelLinear::FromFull(weight, bias, mesh));
    std::vector<const Parameter*> ready;
    ctx.context().set_on_grad_ready([&](const Parameter& parameter) {
      EXPECT_GT(MaxAbs(parameter.grad), 0) << (&parameter == layer.bias() ? "bias" : "weight");
      ready.push_back(&parameter);
    });
    LinearSaved saved;
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, layer.Forward(ctx, x, &saved));
    Pending<Tensor> dx = layer.BackwardInput(ctx, y, &saved);
    EXPECT_TRUE(ready.empty());
    STRAKE_RETURN_IF_ERROR(layer.BackwardWeight(ctx, y, saved));
    EXPECT_EQ(ready, (std::vector<const Parameter*>{layer.bias(), &layer.weight()}));
    return dx.Wait().status();
  });
}

TEST(ColumnParallelLinearTest, ATableThatTheEmbeddingSharesIsNotAnnounced) {
  TestContext ctx(OpSet::kAuto, 1);
  Head head(5, 2, TensorParallel(), WeightOwnership::kShared);
  ASSERT_TRUE(head.arena.Allocate(DType::kF32, true).ok());
  ctx.context().set_on_grad_ready([](const Parameter&) { ADD_FAILURE(); });
  TestTensor x(DType::kF32, {2, 2}), dy(DType::kF32, {2, 5});
  FillSmallIntegers(x, 1);
  FillSmallIntegers(dy, 2);
  EXPECT_TRUE(head.layer.BackwardWeight(ctx, dy, {.x = x}).ok());
  EXPECT_GT(MaxAbs(head.weight->grad), 0);
}

TEST(ColumnParallelLinearTest, WithoutSequenceParallelismEveryRankHasEveryToken) {
  TestTensor weight(DType::kF32, {3, 4}), x(DType::kF32, {1, 3});
  FillSmallIntegers(weight, 1);
  FillSmallIntegers(x, 2);
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer,
                            ColumnParallelLinear::FromFull(weight, Tensor(), mesh, true));
    STRAKE_ASSIGN_OR_RETURN(const Tensor y,
                            layer.WithoutSequenceParallelism().Forward(ctx, x, nullptr));
    EXPECT_EQ(y.shape(), (Shape{1, 2}));
    ExpectCollectives(mesh, {});
    return absl::OkStatus();
  });
}

TEST(ColumnParallelLinearTest, TheDryRunPlansWhatTheRunNeeds) {
  TestTensor weight(DType::kF32, {5, 24}), bias(DType::kF32, {24}), x(DType::kF32, {24, 5});
  for (const TestTensor* t : {&weight, &bias, &x}) FillSmallIntegers(*t, 1);
  for (const int t : kRankCounts) {
    for (const bool sp : {false, true}) {
      OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const auto layer,
                                ColumnParallelLinear::FromFull(weight, bias, mesh, sp));
        const TensorParallel tp = TensorParallel::Planned(mesh.rank(), t, sp);
        ParameterArena arena;
        Parameter* w = arena.Add({{"weight", 24 / t}}, {5, 24 / t}, true);
        Parameter* b = arena.Add({{"bias", 24 / t}}, {24 / t}, false);
        arena.AllocateDryRun(DType::kF32);
        const ColumnParallelLinear planned(w, b, tp);
        const auto passes = [&](const ColumnParallelLinear& l, const Context& ctx) -> absl::Status {
          LinearSaved saved;
          const Tensor input = InputOf(ctx, LocalTokens(x, mesh, sp));
          STRAKE_ASSIGN_OR_RETURN(const Tensor y, l.Forward(ctx, input, &saved));
          Pending<Tensor> dx = l.BackwardInput(ctx, y, &saved);
          STRAKE_RETURN_IF_ERROR(l.BackwardWeight(ctx, y, saved));
          EXPECT_EQ(dx.Wait().value().shape(), input.shape());
          return absl::OkStatus();
        };
        return ExpectDryRunPlans(
            mesh, [&](const Context& ctx) { return passes(layer, ctx); },
            [&](const Context& ctx) { return passes(planned, ctx); });
      });
    }
  }
}

TEST(ColumnParallelLinearTest, WhatDoesNotDivideIsAnErrorWithBothNumbers) {
  TestTensor weight(DType::kF32, {3, 10}), qkv(DType::kF32, {3, 14});
  OnRanks(4, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
    EXPECT_EQ(ColumnParallelLinear::FromFull(weight, Tensor(), mesh).status(),
              absl::InvalidArgumentError(
                  "[shard] 10 columns cannot be divided over 4 tensor-parallel ranks: choose a "
                  "tensor-parallel size that divides 10"));
    const auto segments = QkvSegments(8, 3, 1);
    EXPECT_EQ(ColumnParallelLinear::FromFull(qkv, Tensor(), mesh, false, segments).status(),
              absl::InvalidArgumentError(
                  "[shard] 3 key/value heads can be neither divided over nor replicated on 4 "
                  "tensor-parallel ranks: choose a tensor-parallel size that divides 3 or is a "
                  "multiple of it"));
    return absl::OkStatus();
  });
}

TEST(ColumnParallelLinearDeathTest, WrongShapesAreNamed) {
  const Mesh mesh = Mesh::SingleRank();
  const TestContext ctx(OpSet::kAuto, 1);
  TestTensor weight(DType::kF32, {3, 4}), bias(DType::kF32, {3}), x(DType::kF32, {2, 4});
  FillSmallIntegers(weight, 1);
  EXPECT_DEATH((void)ColumnParallelLinear::FromFull(weight, bias, mesh),
               "\\[column_parallel_linear\\] weight f32\\[3, 4\\], bias f32\\[3\\]");
  const auto layer = ColumnParallelLinear::FromFull(weight, Tensor(), mesh);
  ASSERT_TRUE(layer.ok());
  EXPECT_DEATH((void)layer->Forward(ctx, x, nullptr),
               "\\[linear\\] x f32\\[2, 4\\], weight f32\\[3, 4\\]");
  LinearSaved saved = {.x = x->Rows(0, 2)};
  EXPECT_DEATH((void)layer->BackwardInput(ctx, weight, &saved), "\\[matmul\\]");
  EXPECT_DEATH((void)layer->BackwardWeight(ctx, weight, saved), "\\[matmul\\]");
}

}  // namespace
}  // namespace strake
