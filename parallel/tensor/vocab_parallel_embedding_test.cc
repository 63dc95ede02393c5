#include "parallel/tensor/vocab_parallel_embedding.h"

#include <memory>
#include <optional>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/embedding/embedding.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/layer_test_util.h"

namespace strake {
namespace {

using testing::ExpectCollectives;
using testing::ExpectDryRunPlans;
using testing::ExpectPartsOfWhole;
using testing::FillConstant;
using testing::FillSmallIntegers;
using testing::FillTokens;
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

using Kind = CollectiveKind;

constexpr uint64_t kMicroBatchSeeds[] = {10, 20};

struct Layout {
  int num_ranks;
  bool sequence_parallel = false;
  int64_t num_tokens = 24, vocab_size = 257, channels = 3;
};

// A micro-batch through the whole table.
struct MicroBatch {
  MicroBatch(DType dtype, const Layout& layout, uint64_t seed)
      : tokens(DType::kI32, {layout.num_tokens}),
        x(dtype, {layout.num_tokens, layout.channels}),
        dx(dtype, {layout.num_tokens, layout.channels}) {
    FillTokens(tokens, seed, layout.vocab_size);
    FillSmallIntegers(dx, seed + 1);
    if (layout.num_tokens == 0) return;
    // The last token's row stands before the padding.
    tokens->data<int32_t>()[0] = static_cast<int32_t>(layout.vocab_size) - 1;
  }
  TestTensor tokens, x, dx;
};

struct Whole {
  Whole(const Numerics& numerics, const Layout& layout) {
    const TestContext ctx(numerics.op_set, /*num_threads=*/1);
    const VocabSlice all = {.vocab_size = layout.vocab_size};
    table = arena.Add({{"weight", layout.channels}}, {layout.vocab_size, layout.channels}, true);
    EXPECT_TRUE(arena.Allocate(numerics.dtype, true).ok());
    FillSmallIntegers(table->value, 1);
    for (const uint64_t seed : kMicroBatchSeeds) {
      MicroBatch& batch =
          *batches.emplace_back(std::make_unique<MicroBatch>(numerics.dtype, layout, seed));
      EXPECT_TRUE(EmbeddingForward(ctx, batch.tokens, all, table->value, batch.x).ok());
      EXPECT_TRUE(EmbeddingBackward(ctx, batch.dx, batch.tokens, all, table->grad).ok());
    }
  }
  ParameterArena arena;
  Parameter* table = nullptr;
  std::vector<std::unique_ptr<MicroBatch>> batches;
};

absl::Status RunMicroBatch(const Mesh& mesh, TestContext& test, bool sp, const MicroBatch& batch,
                           const VocabParallelEmbedding& layer) {
  const Context& ctx = test;
  const int64_t x_bytes = batch.x->num_bytes();
  STRAKE_ASSIGN_OR_RETURN(const Tensor x, layer.Forward(ctx, batch.tokens));
  ExpectCollectives(mesh, {{sp ? Kind::kReduceScatterSum : Kind::kAllReduceSum, 1, x_bytes}});
  EXPECT_TRUE(SameBits(x, LocalTokens(batch.x, mesh, sp)));
  const size_t used_bytes = ctx.arena().used_bytes();
  STRAKE_RETURN_IF_ERROR(layer.Backward(ctx, LocalTokens(batch.dx, mesh, sp), batch.tokens));
  if (sp) {
    ExpectCollectives(mesh, {{Kind::kAllGather, 1, x_bytes}});
  } else {
    ExpectCollectives(mesh, {});
  }
  EXPECT_EQ(ctx.arena().used_bytes(), used_bytes) << "the backward pass has scratch alone";
  return absl::OkStatus();
}

void CompareWithWhole(const Numerics& numerics, const Layout& layout) {
  SCOPED_TRACE(::testing::Message() << DTypeName(numerics.dtype) << ", " << layout.num_ranks
                                    << " ranks, sp " << layout.sequence_parallel << ", "
                                    << layout.num_tokens << " tokens of " << layout.vocab_size);
  const Whole whole(numerics, layout);
  std::vector<std::optional<VocabParallelEmbedding>> layers(layout.num_ranks);
  OnRanks(layout.num_ranks, numerics.op_set,
          [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
            std::optional<VocabParallelEmbedding>& layer = layers[mesh.rank()];
            STRAKE_ASSIGN_OR_RETURN(layer, VocabParallelEmbedding::FromFull(
                                               whole.table->value, mesh, layout.sequence_parallel));
            ExpectCollectives(mesh, {});
            for (const auto& batch : whole.batches) {
              STRAKE_RETURN_IF_ERROR(
                  RunMicroBatch(mesh, ctx, layout.sequence_parallel, *batch, *layer));
            }
            return absl::OkStatus();
          });
  std::vector<const ParameterRecord*> tables;
  for (const auto& layer : layers) {
    tables.push_back(&layer->own_arena()->RecordOf(layer->table()));
  }
  ASSERT_EQ(MaxAbs(whole.table->grad) > 0, layout.num_tokens > 0);
  for (Tensor Parameter::*const field : {&Parameter::value, &Parameter::grad}) {
    ExpectPartsOfWhole(tables, whole.arena.RecordOf(*whole.table), field);
  }
}

TEST(VocabParallelEmbeddingTest, IsTheWholeTable) {
  for (const Numerics& numerics : kNumerics) {
    for (const int t : kRankCounts) {
      for (const bool sp : {false, true}) {
        // With one token on 8 ranks, 7 hold padding alone.
        for (const int64_t vocab_size : {1, 5, 24, 257}) {
          CompareWithWhole(numerics,
                           {.num_ranks = t, .sequence_parallel = sp, .vocab_size = vocab_size});
        }
        CompareWithWhole(numerics, {.num_ranks = t, .sequence_parallel = sp, .num_tokens = 0});
      }
      CompareWithWhole(numerics, {.num_ranks = t, .num_tokens = 7});
    }
    CompareWithWhole(numerics, {.num_ranks = 4, .vocab_size = 50257});
  }
}

TEST(VocabParallelEmbeddingTest, SaysWhichTokensItsRowsStandFor) {
  TestTensor table(DType::kF32, {5, 2});
  FillSmallIntegers(table, 1);
  OnRanks(4, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer, VocabParallelEmbedding::FromFull(table, mesh));
    EXPECT_EQ(layer.table().shape, (Shape{2, 2}));
    EXPECT_EQ(layer.slice().vocab_size, 5);
    EXPECT_EQ(layer.slice().begin, 2 * mesh.rank());
    const int64_t num_tokens[] = {2, 2, 1, 0};
    EXPECT_EQ(layer.slice().NumTokens(2), num_tokens[mesh.rank()]);
    return absl::OkStatus();
  });
}

TEST(VocabParallelEmbeddingTest, AnnouncesTheTableOncePerMicroBatch) {
  TestTensor table(DType::kF32, {1, 2}), tokens(DType::kI32, {2});
  FillConstant(table, 1);
  FillConstant(tokens, 0);
  // Ranks that hold padding alone announce too: all have the same order.
  OnRanks(3, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer, VocabParallelEmbedding::FromFull(table, mesh));
    std::vector<const Parameter*> ready;
    ctx.context().set_on_grad_ready(
        [&](const Parameter& parameter) { ready.push_back(&parameter); });
    STRAKE_ASSIGN_OR_RETURN(const Tensor x, layer.Forward(ctx, tokens));
    EXPECT_TRUE(ready.empty());
    STRAKE_RETURN_IF_ERROR(layer.Backward(ctx, x, tokens));
    EXPECT_EQ(ready, (std::vector<const Parameter*>{&layer.table()}));
    EXPECT_EQ(MaxAbs(layer.table().grad), mesh.rank() == 0 ? 2 : 0);
    return absl::OkStatus();
  });
}

TEST(VocabParallelEmbeddingTest, WithoutSequenceParallelismEveryRankHasEveryToken) {
  TestTensor table(DType::kF32, {5, 2}), tokens(DType::kI32, {1});
  FillSmallIntegers(table, 1);
  FillTokens(tokens, 2, 5);
  OnRanks(2, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer, VocabParallelEmbedding::FromFull(table, mesh, true));
    STRAKE_ASSIGN_OR_RETURN(const Tensor x,
                            layer.WithoutSequenceParallelism().Forward(ctx, tokens));
    const int32_t token = tokens->data<int32_t>()[0];
    EXPECT_TRUE(SameBits(x, table->Rows(token, token + 1)));
    ExpectCollectives(mesh, {{Kind::kAllReduceSum, 1, 2 * sizeof(float)}});
    return absl::OkStatus();
  });
}

TEST(VocabParallelEmbeddingTest, TheDryRunPlansWhatTheRunNeeds) {
  constexpr int64_t kTokens = 24, kVocab = 257, kChannels = 3;
  TestTensor table(DType::kF32, {kVocab, kChannels}), tokens(DType::kI32, {kTokens});
  FillSmallIntegers(table, 1);
  FillTokens(tokens, 2, kVocab);
  for (const int t : kRankCounts) {
    for (const bool sp : {false, true}) {
      OnRanks(t, OpSet::kAuto, [&](const Mesh& mesh, TestContext&) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const auto layer,
                                VocabParallelEmbedding::FromFull(table, mesh, sp));
        ParameterArena arena;
        Parameter* rows =
            arena.Add({{"weight", kChannels}}, {(kVocab + t - 1) / t, kChannels}, true);
        arena.AllocateDryRun(DType::kF32);
        const VocabParallelEmbedding planned(rows, kVocab,
                                             TensorParallel::Planned(mesh.rank(), t, sp));
        const auto passes = [&](const VocabParallelEmbedding& l,
                                const Context& ctx) -> absl::Status {
          STRAKE_ASSIGN_OR_RETURN(const Tensor x, l.Forward(ctx, InputOf(ctx, tokens)));
          EXPECT_EQ(x.shape(), (Shape{sp ? kTokens / t : kTokens, kChannels}));
          return l.Backward(ctx, x, InputOf(ctx, tokens));
        };
        return ExpectDryRunPlans(
            mesh, [&](const Context& ctx) { return passes(layer, ctx); },
            [&](const Context& ctx) { return passes(planned, ctx); });
      });
    }
  }
}

// Every rank returns the error, and none waits for the others.
TEST(VocabParallelEmbeddingTest, TokensOutsideTheVocabularyAreAnError) {
  TestTensor table(DType::kF32, {5, 2}), tokens(DType::kI32, {2}), dx(DType::kF32, {2, 2});
  FillSmallIntegers(table, 1);
  FillSmallIntegers(dx, 2);
  FillConstant(tokens, 0);
  // A vocabulary of 5 has a row for this token, but it is padding.
  tokens->data<int32_t>()[1] = 5;
  OnRanks(3, OpSet::kAuto, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const auto layer, VocabParallelEmbedding::FromFull(table, mesh));
    const absl::Status expected = absl::InvalidArgumentError(
        "[embedding] token 1 of 2 is 5, outside the vocabulary's [0, 5)");
    EXPECT_EQ(layer.Forward(ctx, tokens).status(), expected);
    EXPECT_EQ(layer.Backward(ctx, dx, tokens), expected);
    ExpectCollectives(mesh, {});
    return absl::OkStatus();
  });
}

TEST(VocabParallelEmbeddingDeathTest, WrongShapesAreNamed) {
  ParameterArena arena;
  Parameter* table = arena.Add({{"weight", 2}}, {5, 2}, true);
  EXPECT_DEATH(VocabParallelEmbedding(table, 5, TensorParallel::Planned(0, 2)),
               "table \\[5, 2\\] for a vocabulary of 5 over 2 ranks");
  TestTensor vector(DType::kF32, {5});
  EXPECT_DEATH((void)VocabParallelEmbedding::FromFull(vector, Mesh::SingleRank()),
               "\\[vocab_parallel_embedding\\] table f32\\[5\\]");
}

}  // namespace
}  // namespace strake
