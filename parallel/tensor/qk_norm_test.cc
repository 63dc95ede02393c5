#include "parallel/tensor/qk_norm.h"

#include <complex>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {
namespace {

using testing::AddPieces;
using testing::ComplexStepGradient;
using testing::CopyConvert;
using testing::ExpectCollectives;
using testing::ExpectDryRunPlans;
using testing::ExpectedCollective;
using testing::FillConstant;
using testing::FillNormal;
using testing::InputOf;
using testing::kRankCounts;
using testing::LocalTokens;
using testing::MaxAbs;
using testing::OnRanks;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

constexpr double kEps = 1e-3, kOffset = 1;
constexpr int64_t kTokens = 24, kNumHeads = 24, kHeadDim = 3;

// Of the whole model.
struct Heads {
  QkNormKind kind;
  int64_t num_heads = kNumHeads, num_kv_heads;

  bool whole() const { return kind == QkNormKind::kWhole; }
  std::vector<ShardSegment> Segments() const {
    return QkvSegments(num_heads, num_kv_heads, kHeadDim);
  }
  int64_t NumColumns() const { return (num_heads + 2 * num_kv_heads) * kHeadDim; }
  // Of qkv, or of another matrix with its columns.
  WeightShards Shards(int64_t rows, int num_ranks) const {
    return WeightShards::Split({rows, NumColumns()}, 1, Segments(), num_ranks).value();
  }
  int64_t QueryColumns() const { return (whole() ? num_heads : 1) * kHeadDim; }
  int64_t KeyColumns() const { return (whole() ? num_kv_heads : 1) * kHeadDim; }
  // Of a weight of the whole projection: segment 0 or 1.
  WeightShards WeightShardsOf(int segment, int num_ranks) const {
    const ShardSegment part = Segments()[segment];
    return WeightShards::Split({part.size()}, 0, {part}, num_ranks).value();
  }
};

std::ostream& operator<<(std::ostream& out, const Heads& heads) {
  return out << (heads.whole() ? "whole, " : "per head, ") << heads.num_kv_heads
             << " key/value heads";
}

// A rank's layer and its parameters, with their parts of the whole weights.
struct RankLayer {
  RankLayer(const Heads& heads, const Tensor& query_weight, const Tensor& key_weight,
            const TensorParallel& tp)
      : query(Add("query", heads, 0, query_weight, tp)),
        key(Add("key", heads, 1, key_weight, tp)),
        layer(LocalHeads(heads, tp), query, key, kEps, kOffset, tp) {
    EXPECT_TRUE(arena.Allocate(query_weight.dtype(), true).ok());
    FillPart(heads, 0, query_weight, tp, query);
    FillPart(heads, 1, key_weight, tp, key);
  }

  Parameter* Add(const std::string& name, const Heads& heads, int segment, const Tensor& weight,
                 const TensorParallel& tp) {
    const int64_t columns = weight.dim(0);
    if (!heads.whole()) {
      return AddReplicatedParameter({{name, columns}}, {columns}, tp, ReplicatedGrad::kPartial,
                                    false, {}, &arena);
    }
    return AddShardedParameter({{name, columns}}, heads.WeightShardsOf(segment, tp.size()), tp,
                               false, {}, &arena);
  }

  static void FillPart(const Heads& heads, int segment, const Tensor& weight,
                       const TensorParallel& tp, const Parameter* to) {
    FillConstant(to->grad, 0);
    if (heads.whole()) {
      heads.WeightShardsOf(segment, tp.size()).Slice(weight, tp.rank(), to->value);
    } else {
      CopyConvert(weight, to->value);
    }
  }

  static QkNormHeads LocalHeads(const Heads& heads, const TensorParallel& tp) {
    const AttentionHeads local =
        AttentionHeadShard(heads.num_heads, heads.num_kv_heads, tp.size(), tp.rank()).value();
    return {heads.kind, local.query.size(), local.key_value.range.size(), kHeadDim};
  }

  ParameterArena arena;
  Parameter *query, *key;
  QkNormLayer layer;
};

// whole += the gradient of a rank's weight.
void AddGradient(const Heads& heads, int segment, const Tensor& grad, int num_ranks, int rank,
                 const Tensor& whole) {
  const Tensor row(grad.raw(), grad.dtype(), {1, grad.dim(0)});
  const Tensor whole_row(whole.raw(), whole.dtype(), {1, whole.dim(0)});
  const WeightShards shards =
      heads.whole()
          ? WeightShards::Split({1, whole.dim(0)}, 1, {heads.Segments()[segment]}, num_ranks)
                .value()
          : WeightShards::Split({1, whole.dim(0)}, 1, {{"columns", whole.dim(0)}}, 1).value();
  AddPieces(shards, row, heads.whole() ? rank : 0, whole_row);
}

// Tensors of all ranks: what one rank computes with.
struct Whole {
  explicit Whole(const Heads& heads, DType dtype = DType::kF64)
      : qkv(dtype, {kTokens, heads.NumColumns()}),
        query(dtype, {heads.QueryColumns()}),
        key(dtype, {heads.KeyColumns()}),
        dqkv(dtype, qkv->shape()),
        dquery(dtype, query->shape()),
        dkey(dtype, key->shape()) {
    FillNormal(qkv, 1);
    FillNormal(query, 2);
    FillNormal(key, 3);
    for (const TestTensor* sum : {&dqkv, &dquery, &dkey}) FillConstant(*sum, 0);
  }

  TestTensor qkv, query, key, dqkv, dquery, dkey;
};

// Each rank has a gradient of its own, which for key/value heads with several holders is a term.
void CompareWithOneRank(const Heads& heads, int num_ranks, bool sp) {
  SCOPED_TRACE(::testing::Message() << heads << ", " << num_ranks << " ranks, sp " << sp);
  const WeightShards shards = heads.Shards(kTokens, num_ranks);
  Whole input(heads), ranks(heads);
  std::vector<std::unique_ptr<TestTensor>> y(num_ranks), dqkv(num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    y[rank] = std::make_unique<TestTensor>(DType::kF64, shards.shard_shape());
    dqkv[rank] = std::make_unique<TestTensor>(DType::kF64, shards.shard_shape());
    shards.Slice(input.qkv, rank, *y[rank]);
    FillNormal(*dqkv[rank], 10 + rank);
    AddPieces(shards, *dqkv[rank], rank, input.dqkv);
  }
  std::vector<std::unique_ptr<RankLayer>> layers(num_ranks);
  OnRanks(num_ranks, OpSet::kReference, [&](const Mesh& mesh, TestContext& test) -> absl::Status {
    const Context& ctx = test;
    const int rank = mesh.rank();
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
    layers[rank] = std::make_unique<RankLayer>(heads, input.query, input.key, tp);
    const QkNormLayer& layer = layers[rank]->layer;
    std::vector<ExpectedCollective> sums;
    if (heads.whole()) sums = {{CollectiveKind::kAllReduceSum, 1, kTokens * 2 * 8}};
    QkNormSaved saved;
    layer.Allocate(ctx, *y[rank], &saved);
    const size_t saved_bytes = ctx.arena().used_bytes();
    STRAKE_RETURN_IF_ERROR(layer.Forward(ctx, *y[rank], &saved));
    ExpectCollectives(mesh, sums);
    const TestTensor dy(DType::kF64, shards.shard_shape());
    CopyConvert(*dqkv[rank], dy);
    STRAKE_RETURN_IF_ERROR(layer.Backward(ctx, saved, *dqkv[rank]));
    ExpectCollectives(mesh, sums);
    EXPECT_EQ(ctx.arena().used_bytes(), saved_bytes) << "all else is scratch";
    // The same bits in two passes, whose second communicates nothing.
    const TestContext kept(OpSet::kReference, 1);
    const RankLayer apart(heads, input.query, input.key, tp);
    STRAKE_RETURN_IF_ERROR(apart.layer.BackwardInput(ctx, kept, &saved, dy));
    mesh.communicator(MeshAxis::kTp).ClearStats();
    STRAKE_RETURN_IF_ERROR(apart.layer.BackwardWeight(ctx, saved));
    ExpectCollectives(mesh, {});
    EXPECT_TRUE(SameBits(dy, *dqkv[rank]));
    EXPECT_TRUE(SameBits(apart.query->grad, layers[rank]->query->grad));
    EXPECT_TRUE(SameBits(apart.key->grad, layers[rank]->key->grad));
    return absl::OkStatus();
  });
  FillConstant(ranks.dqkv, 0);
  for (int rank = 0; rank < num_ranks; ++rank) {
    shards.Place(*y[rank], rank, ranks.qkv);
    AddPieces(shards, *dqkv[rank], rank, ranks.dqkv);
    AddGradient(heads, 0, layers[rank]->query->grad, num_ranks, rank, ranks.dquery);
    AddGradient(heads, 1, layers[rank]->key->grad, num_ranks, rank, ranks.dkey);
  }

  const TestContext ctx(OpSet::kReference, 1);
  const RankLayer one(heads, input.query, input.key, TensorParallel());
  QkNormSaved saved;
  one.layer.Allocate(ctx, input.qkv, &saved);
  ASSERT_TRUE(one.layer.Forward(ctx, input.qkv, &saved).ok());
  ASSERT_TRUE(one.layer.Backward(ctx, saved, input.dqkv).ok());
  EXPECT_GT(MaxAbs(one.query->grad), 0.1);
  EXPECT_GT(MaxAbs(one.key->grad), 0.1);
  EXPECT_LT(RelativeError(ranks.qkv, input.qkv), 1e-12);
  EXPECT_LT(RelativeError(ranks.dqkv, input.dqkv), 1e-12);
  EXPECT_LT(RelativeError(ranks.dquery, one.query->grad), 1e-12);
  EXPECT_LT(RelativeError(ranks.dkey, one.key->grad), 1e-12);
}

TEST(QkNormLayerTest, AnyNumberOfRanksIsOneRank) {
  for (const QkNormKind kind : {QkNormKind::kPerHead, QkNormKind::kWhole}) {
    for (const int t : kRankCounts) {
      for (const int64_t num_kv_heads : {1, 2, 3, 4, 24}) {
        if (num_kv_heads % t != 0 && t % num_kv_heads != 0) continue;
        for (const bool sp : {false, true}) {
          CompareWithOneRank({.kind = kind, .num_kv_heads = num_kv_heads}, t, sp);
        }
      }
    }
  }
}

// The projection to queries, keys and values, and their norm.
struct Block {
  static constexpr int kRanks = 4;
  static constexpr int64_t kRows = 4, kChannels = 3;

  explicit Block(const Heads& h)
      : heads(h),
        x(DType::kC128, {kRows, kChannels}),
        weight(DType::kC128, {kChannels, h.NumColumns()}),
        query(DType::kC128, {h.QueryColumns()}),
        key(DType::kC128, {h.KeyColumns()}) {
    uint64_t seed = 1;
    for (const TestTensor* tensor : {&x, &weight, &query, &key}) FillNormal(*tensor, seed++);
  }

  // Weights of the rank's outputs in the loss: those of key/value heads differ between holders, as
  // if each had query heads of its own.
  static void FillLossWeights(int rank, const Tensor& dqkv) { FillNormal(dqkv, 20 + rank); }

  Heads heads;
  TestTensor x, weight, query, key;
};

struct BlockOnRank {
  BlockOnRank(const Block& block, const Mesh& mesh, bool sp)
      : qkv(ColumnParallelLinear::FromFull(block.weight, {}, mesh, sp, block.heads.Segments())
                .value()),
        norm(block.heads, block.query, block.key,
             TensorParallel(mesh.communicator(MeshAxis::kTp), sp)),
        x(LocalTokens(block.x, mesh, sp)) {}

  absl::StatusOr<Tensor> Forward(const Context& ctx) {
    STRAKE_ASSIGN_OR_RETURN(const Tensor y, qkv.Forward(ctx, x, &saved));
    norm.layer.Allocate(ctx, y, &norm_saved);
    STRAKE_RETURN_IF_ERROR(norm.layer.Forward(ctx, y, &norm_saved));
    return y;
  }
  absl::Status Backward(const Context& ctx, const Tensor& dqkv) {
    STRAKE_RETURN_IF_ERROR(norm.layer.Backward(ctx, norm_saved, dqkv));
    Pending<Tensor> pending = qkv.BackwardInput(ctx, dqkv, &saved);
    STRAKE_RETURN_IF_ERROR(qkv.BackwardWeight(ctx, dqkv, saved));
    return pending.Wait().status();
  }

  ColumnParallelLinear qkv;
  RankLayer norm;
  Tensor x;
  LinearSaved saved = {};
  QkNormSaved norm_saved = {};
};

TEST(QkNormLayerTest, GradientsByComplexStep) {
  for (const QkNormKind kind : {QkNormKind::kPerHead, QkNormKind::kWhole}) {
    for (const bool sp : {false, true}) {
      const Block block({.kind = kind, .num_heads = 4, .num_kv_heads = 2});
      SCOPED_TRACE(::testing::Message() << block.heads << ", sp " << sp);
      constexpr int kRanks = Block::kRanks;
      const WeightShards shards = block.heads.Shards(Block::kRows, kRanks);
      std::vector<std::unique_ptr<BlockOnRank>> ranks(kRanks);
      OnRanks(kRanks, OpSet::kReference, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
        auto& rank = ranks[mesh.rank()];
        rank = std::make_unique<BlockOnRank>(block, mesh, sp);
        STRAKE_RETURN_IF_ERROR(rank->Forward(ctx).status());
        TestTensor dqkv(DType::kC128, shards.shard_shape());
        Block::FillLossWeights(mesh.rank(), dqkv);
        return rank->Backward(ctx, dqkv);
      });
      const auto loss = [&] {
        std::vector<std::complex<double>> terms(kRanks);
        OnRanks(kRanks, OpSet::kReference, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
          BlockOnRank rank(block, mesh, sp);
          STRAKE_ASSIGN_OR_RETURN(const Tensor y, rank.Forward(ctx));
          TestTensor dqkv(DType::kC128, shards.shard_shape());
          Block::FillLossWeights(mesh.rank(), dqkv);
          terms[mesh.rank()] = WeightedSum(y, dqkv);
          return absl::OkStatus();
        });
        std::complex<double> sum;
        for (const std::complex<double>& term : terms) sum += term;
        return sum;
      };
      TestTensor expected(DType::kF64, block.weight->shape()),
          expected_query(DType::kF64, block.query->shape()),
          expected_key(DType::kF64, block.key->shape()),
          weight(DType::kC128, block.weight->shape()), query(DType::kC128, block.query->shape()),
          key(DType::kC128, block.key->shape());
      ComplexStepGradient(block.weight, loss, expected);
      ComplexStepGradient(block.query, loss, expected_query);
      ComplexStepGradient(block.key, loss, expected_key);
      for (const TestTensor* sum : {&weight, &query, &key}) FillConstant(*sum, 0);
      for (int r = 0; r < kRanks; ++r) {
        AddPieces(block.heads.Shards(Block::kChannels, kRanks), ranks[r]->qkv.weight().grad, r,
                  weight);
        AddGradient(block.heads, 0, ranks[r]->norm.query->grad, kRanks, r, query);
        AddGradient(block.heads, 1, ranks[r]->norm.key->grad, kRanks, r, key);
      }
      EXPECT_GT(MaxAbs(expected_query), 0.1);
      EXPECT_GT(MaxAbs(expected_key), 0.1);
      // The bound for a few dozen operations on numbers near 1.
      EXPECT_LT(RelativeError(weight, expected), 1e-13);
      EXPECT_LT(RelativeError(query, expected_query), 1e-13);
      EXPECT_LT(RelativeError(key, expected_key), 1e-13);
    }
  }
}

TEST(QkNormLayerTest, GradientsAreAnnouncedAndNothingNeedBeSaved) {
  for (const QkNormKind kind : {QkNormKind::kPerHead, QkNormKind::kWhole}) {
    const Heads heads = {.kind = kind, .num_kv_heads = 4};
    Whole input(heads);
    const RankLayer rank(heads, input.query, input.key, TensorParallel());
    TestContext ctx(OpSet::kReference, 1);
    std::vector<const Parameter*> ready, read;
    ctx.context().set_on_grad_ready([&](const Parameter& p) { ready.push_back(&p); });
    ctx.context().set_on_will_read([&](const Parameter& p) { read.push_back(&p); });
    TestTensor y(DType::kF64, input.qkv->shape());
    CopyConvert(input.qkv, y);
    ASSERT_TRUE(rank.layer.Forward(ctx, y, nullptr).ok());
    EXPECT_EQ(ctx.context().arena().used_bytes(), 0u);
    QkNormSaved saved;
    rank.layer.Allocate(ctx, input.qkv, &saved);
    ASSERT_TRUE(rank.layer.Forward(ctx, input.qkv, &saved).ok());
    EXPECT_TRUE(SameBits(y, input.qkv));
    ASSERT_TRUE(rank.layer.Backward(ctx, saved, input.dqkv).ok());
    EXPECT_EQ(ready, (std::vector<const Parameter*>{rank.key, rank.query}));
    EXPECT_EQ(read, (std::vector<const Parameter*>{rank.query, rank.key, rank.query, rank.key}));
  }
}

TEST(QkNormLayerTest, TheDryRunPlansWhatTheRunNeeds) {
  const Heads heads = {.kind = QkNormKind::kWhole, .num_kv_heads = 2};
  for (const int t : {2, 4, 8}) {
    const Whole input(heads, DType::kF32);
    OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
      TestTensor qkv(DType::kF32, heads.Shards(kTokens, t).shard_shape());
      FillNormal(qkv, 1);
      const auto run = [&](const TensorParallel& tp, const Context& ctx) -> absl::Status {
        const RankLayer rank(heads, input.query, input.key, tp);
        QkNormSaved saved;
        rank.layer.Allocate(ctx, InputOf(ctx, qkv), &saved);
        STRAKE_RETURN_IF_ERROR(rank.layer.Forward(ctx, InputOf(ctx, qkv), &saved));
        return rank.layer.Backward(ctx, saved, InputOf(ctx, qkv));
      };
      const TensorParallel tp(mesh.communicator(MeshAxis::kTp));
      const TensorParallel planned = TensorParallel::Planned(mesh.rank(), t);
      return ExpectDryRunPlans(
          mesh, [&](const Context& ctx) { return run(tp, ctx); },
          [&](const Context& ctx) { return run(planned, ctx); });
    });
  }
}

TEST(QkNormLayerTest, BothPassesReturnAnotherRanksError) {
  const Heads heads = {.kind = QkNormKind::kWhole, .num_kv_heads = 2};
  const Whole input(heads);
  OnRanks(2, OpSet::kReference, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    Communicator& group = mesh.communicator(MeshAxis::kTp);
    if (mesh.rank() == 1) {
      group.Abort(absl::DataLossError("a bad disk"));
      return absl::OkStatus();
    }
    const RankLayer rank(heads, input.query, input.key, TensorParallel(group));
    TestTensor qkv(DType::kF64, heads.Shards(kTokens, 2).shard_shape());
    FillNormal(qkv, 1);
    QkNormSaved saved;
    rank.layer.Allocate(ctx, qkv, &saved);
    FillConstant(saved.raw, 1);
    FillConstant(saved.rstd, 1);
    for (const absl::Status& error :
         {rank.layer.Forward(ctx, qkv, &saved), rank.layer.Backward(ctx, saved, qkv)}) {
      EXPECT_NE(error.message().find("a bad disk"), absl::string_view::npos) << error;
    }
    return absl::OkStatus();
  });
}

}  // namespace
}  // namespace strake
