// The tensor-parallel layers one after another, differentiated through the collectives.
#include <complex>
#include <memory>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/layer_test_util.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/vocab_parallel_cross_entropy.h"
#include "parallel/tensor/vocab_parallel_embedding.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillConstant;
using testing::FillNormal;
using testing::FillTokens;
using testing::GetElement;
using testing::MaxAbs;
using testing::OnRanks;
using testing::RelativeError;
using testing::SetElement;
using testing::TestContext;
using testing::TestTensor;

// Embedding, column, row, and the embedding's own table as the head: every layer with a gradient.
struct Chain {
  static constexpr int64_t kTokens = 4, kVocab = 5, kChannels = 3, kHidden = 4;

  Chain() {
    uint64_t seed = 1;
    for (const TestTensor* weight : Weights()) FillNormal(*weight, seed++);
    FillTokens(tokens, 10, kVocab);
    FillTokens(targets, 11, kVocab);
  }
  std::vector<const TestTensor*> Weights() const { return {&table, &up, &up_bias, &down, &bias}; }

  TestTensor table{DType::kC128, {kVocab, kChannels}};
  TestTensor up{DType::kC128, {kChannels, kHidden}}, up_bias{DType::kC128, {kHidden}};
  TestTensor down{DType::kC128, {kHidden, kChannels}}, bias{DType::kC128, {kChannels}};
  TestTensor tokens{DType::kI32, {kTokens}}, targets{DType::kI32, {kTokens}};
};

// One rank's layers, and what the forward pass saved for the backward pass.
struct ChainOnRank {
  static absl::StatusOr<ChainOnRank> FromFull(const Chain& chain, const Mesh& mesh, bool sp) {
    STRAKE_ASSIGN_OR_RETURN(auto embedding,
                            VocabParallelEmbedding::FromFull(chain.table, mesh, sp));
    STRAKE_ASSIGN_OR_RETURN(auto up,
                            ColumnParallelLinear::FromFull(chain.up, chain.up_bias, mesh, sp));
    STRAKE_ASSIGN_OR_RETURN(auto down,
                            RowParallelLinear::FromFull(chain.down, chain.bias, mesh, sp));
    const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sp);
    const ColumnParallelLinear head(&embedding.table(), nullptr, tp, /*transposed=*/true,
                                    WeightOwnership::kShared);
    return ChainOnRank{embedding, up, down, head, tp};
  }

  // The sum of the tokens' losses.
  absl::StatusOr<std::complex<double>> Forward(const Context& ctx, const Chain& chain) {
    STRAKE_ASSIGN_OR_RETURN(Tensor x, embedding.Forward(ctx, chain.tokens));
    STRAKE_ASSIGN_OR_RETURN(x, up.Forward(ctx, x, &up_saved));
    STRAKE_ASSIGN_OR_RETURN(x, down.Forward(ctx, x, &down_saved));
    STRAKE_ASSIGN_OR_RETURN(logits, head.Forward(ctx, x, &head_saved));
    const Tensor loss = ctx.arena().Allocate(x.dtype(), {Chain::kTokens});
    lse = ctx.arena().Allocate(x.dtype(), {Chain::kTokens});
    STRAKE_RETURN_IF_ERROR(VocabParallelCrossEntropyForward(ctx, tp, embedding.slice(), logits,
                                                            chain.targets, loss, lse));
    std::complex<double> sum = 0;
    for (int64_t n = 0; n < Chain::kTokens; ++n) sum += GetElement(loss, n);
    return sum;
  }

  absl::Status Backward(const Context& ctx, const Chain& chain) {
    STRAKE_RETURN_IF_ERROR(SoftmaxCrossEntropyBackward(ctx, chain.targets, lse, /*scale=*/1,
                                                       /*softcap=*/0, embedding.slice(), logits));
    Pending<Tensor> head_dx = head.BackwardInput(ctx, logits, &head_saved);
    STRAKE_RETURN_IF_ERROR(head.BackwardWeight(ctx, logits, head_saved));
    STRAKE_ASSIGN_OR_RETURN(const Tensor dx, head_dx.Wait());
    STRAKE_ASSIGN_OR_RETURN(const Tensor dh, down.BackwardInput(ctx, dx, &down_saved).Wait());
    STRAKE_RETURN_IF_ERROR(down.BackwardWeight(ctx, dx, down_saved));
    Pending<Tensor> up_dx = up.BackwardInput(ctx, dh, &up_saved);
    STRAKE_RETURN_IF_ERROR(up.BackwardWeight(ctx, dh, up_saved));
    STRAKE_ASSIGN_OR_RETURN(const Tensor de, up_dx.Wait());
    return embedding.Backward(ctx, de, chain.tokens);
  }

  VocabParallelEmbedding embedding;
  ColumnParallelLinear up;
  RowParallelLinear down;
  ColumnParallelLinear head;
  TensorParallel tp;
  LinearSaved up_saved = {}, head_saved = {};
  RowParallelLinearSaved down_saved = {};
  Tensor logits = {}, lse = {};
};

TEST(LayerChainTest, GradientsByComplexStep) {
  for (const bool sp : {false, true}) {
    const Chain chain;
    constexpr int kRanks = 2;
    std::vector<std::unique_ptr<ChainOnRank>> ranks(kRanks);
    OnRanks(kRanks, OpSet::kReference, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(ChainOnRank rank, ChainOnRank::FromFull(chain, mesh, sp));
      STRAKE_RETURN_IF_ERROR(rank.Forward(ctx, chain).status());
      ranks[mesh.rank()] = std::make_unique<ChainOnRank>(rank);
      return ranks[mesh.rank()]->Backward(ctx, chain);
    });
    const auto loss = [&] {
      std::complex<double> sum;
      OnRanks(kRanks, OpSet::kReference, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(ChainOnRank rank, ChainOnRank::FromFull(chain, mesh, sp));
        STRAKE_ASSIGN_OR_RETURN(const std::complex<double> local, rank.Forward(ctx, chain));
        if (mesh.rank() == 0) sum = local;
        return absl::OkStatus();
      });
      return sum;
    };
    const auto expect_gradient = [&](const Tensor& weight, const WeightShards& shards, bool partial,
                                     auto parameter_of) {
      TestTensor expected(DType::kF64, weight.shape()), actual(DType::kC128, weight.shape());
      ComplexStepGradient(weight, loss, expected);
      FillConstant(actual, 0);
      for (int rank = 0; rank < kRanks; ++rank) {
        const Tensor& grad = parameter_of(*ranks[rank])->grad;
        if (partial) {
          for (int64_t i = 0; i < actual->num_elements(); ++i) {
            SetElement(actual, i, GetElement(actual, i) + GetElement(grad, i));
          }
        } else {
          shards.Place(grad, rank, actual);
        }
      }
      EXPECT_GT(MaxAbs(expected), 0.1);
      // The bound for a few dozen operations on numbers near 1.
      EXPECT_LT(RelativeError(actual, expected), 1e-13) << weight.ToString() << ", sp " << sp;
    };
    const auto columns = [](const Tensor& x) {
      return WeightShards::Split(x.shape(), -1, {{"columns", Chain::kHidden}}, kRanks).value();
    };
    expect_gradient(chain.table, WeightShards::Vocab(chain.table->shape(), 0, kRanks), false,
                    [](const ChainOnRank& r) { return &r.embedding.table(); });
    expect_gradient(chain.up, columns(chain.up), false,
                    [](const ChainOnRank& r) { return &r.up.weight(); });
    expect_gradient(chain.up_bias, columns(chain.up_bias), false,
                    [](const ChainOnRank& r) { return r.up.bias(); });
    expect_gradient(
        chain.down,
        WeightShards::Split(chain.down->shape(), 0, {{"rows", Chain::kHidden}}, kRanks).value(),
        false, [](const ChainOnRank& r) { return &r.down.weight(); });
    expect_gradient(chain.bias, WeightShards::Replicated(chain.bias->shape(), kRanks), sp,
                    [](const ChainOnRank& r) { return r.down.bias(); });
  }
}

TEST(LayerChainTest, EveryPassReturnsAnotherRanksError) {
  for (const bool sp : {false, true}) {
    const Chain chain;
    OnRanks(2, OpSet::kReference, [&](const Mesh& mesh, TestContext& ctx) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(ChainOnRank rank, ChainOnRank::FromFull(chain, mesh, sp));
      if (mesh.rank() == 1) {
        mesh.communicator(MeshAxis::kTp).Abort(absl::DataLossError("a bad disk"));
        return absl::OkStatus();
      }
      constexpr int64_t kTokens = Chain::kTokens, kHalf = Chain::kHidden / 2;
      const int64_t rows = sp ? kTokens / 2 : kTokens;
      TestTensor x(DType::kC128, {rows, Chain::kChannels}), h(DType::kC128, {kTokens, kHalf}),
          logits(DType::kC128, {kTokens, 3}), loss(DType::kC128, {kTokens}),
          gathered(DType::kC128, {kTokens, Chain::kChannels});
      for (const TestTensor* t : {&x, &h, &logits}) FillNormal(*t, 1);
      LinearSaved up_saved = {.x = gathered};
      std::vector<absl::Status> errors = {
          rank.embedding.Forward(ctx, chain.tokens).status(),
          rank.down.Forward(ctx, h, nullptr).status(),
          rank.up.BackwardInput(ctx, h, &up_saved).Wait().status(),
          VocabParallelCrossEntropyForward(ctx, rank.tp, rank.embedding.slice(), logits,
                                           chain.targets, loss, loss)};
      if (sp) {
        errors.push_back(rank.embedding.Backward(ctx, x, chain.tokens));
        errors.push_back(rank.up.Forward(ctx, x, nullptr).status());
        errors.push_back(rank.down.BackwardInput(ctx, x, &rank.down_saved).Wait().status());
      }
      for (const absl::Status& error : errors) {
        EXPECT_NE(error.message().find("a bad disk"), absl::string_view::npos) << error;
      }
      return absl::OkStatus();
    });
  }
}

}  // namespace
}  // namespace strake
