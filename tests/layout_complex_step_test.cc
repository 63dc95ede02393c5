// Every gradient of a model on two ranks, by the complex step through their collectives.
#include <chrono>
#include <complex>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/documents.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/head_loss.h"
#include "models/lora_modules.h"
#include "models/model_config.h"
#include "models/sliced_models.h"
#include "models/transformer.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/tensor/partial_gradients.h"
#include "tests/full_tensors.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"

namespace strake {
namespace {

using Complex = std::complex<double>;
using testing::kComplexStep;

constexpr int64_t kSeqLen = 4;
constexpr int64_t kTokens = 3 * kSeqLen;  // the second rank's tokens begin within a sequence
constexpr LogitsChunk kChunks = {.max_bytes = 0, .min_rows = 5};  // and a chunk with tokens of both

// Two layers of the smallest model that has every feature of its kind; a grouped key/value head is
// on both ranks, and the vocabulary is padded. Tied models have biases, and packed documents.
ModelConfig TinyConfig(const testing::LayoutModel& model, bool tied) {
  ModelConfig c = model.features;
  c.vocab_size = 7;
  c.max_positions = kSeqLen;
  c.hidden_size = 8;
  c.num_layers = 2;
  c.num_heads = 2;
  c.num_kv_heads = model.grouped_heads ? 1 : 2;
  c.head_dim = 4;
  c.intermediate_size = 10;
  c.initializer_range = 0.4;  // large enough that every gradient is far from 0
  c.tie_word_embeddings = tied;
  if (tied) c.attention_output_bias = c.mlp_bias = true;
  // Without RoPE a key's bias adds the same to all scores of a query: its gradient is 0.
  if (tied && model.name != "smollm3") c.qkv_bias = true;
  return c;
}

const std::vector<int64_t> kDocuments = {1, 3, 4, 2, 2};

// One rank's part of the model, in c128; each sequence is one document, or kDocuments are packed.
class RankModel {
 public:
  RankModel(const ModelConfig& config, const Mesh& mesh, bool sequence_parallel, bool packed)
      : ctx_(OpSet::kReference, /*num_threads=*/1, size_t{1} << 22),
        tokens_(DType::kI32, {kTokens}),
        targets_(DType::kI32, {kTokens}),
        positions_(DType::kI32, {kTokens}),
        tp_(mesh.communicator(MeshAxis::kTp), sequence_parallel),
        model_(config, kSeqLen, &weights_, tp_, kChunks, ActivationRecompute::kNone, &adapters_),
        trained_(config.lora.enabled() ? adapters_ : weights_) {
    testing::FillTokens(tokens_, 1, config.vocab_size);
    testing::FillTokens(targets_, 2, config.vocab_size);
    if (!packed) return;
    CHECK(SetDocumentPositions(kDocuments, kSeqLen, positions_).ok());
    documents_ = {positions_, kDocuments};
  }

  absl::Status SetWeights() {
    for (ParameterArena* arena : {&weights_, &adapters_}) {
      if (arena->num_elements() == 0) continue;
      STRAKE_RETURN_IF_ERROR(arena->Allocate(DType::kC128, /*with_gradients=*/arena == &trained_));
      testing::SetWeights(ctx_.context().team(), arena);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Complex>> Losses() {
    const ActivationScope scope(ctx_.context().arena());
    TransformerSaved saved;
    STRAKE_ASSIGN_OR_RETURN(const Tensor loss,
                            model_.Forward(ctx_, tokens_, targets_, kSeqLen, &saved, documents_));
    return std::vector<Complex>(loss.data<Complex>(), loss.data<Complex>() + kTokens);
  }

  // The sum of the losses.
  absl::StatusOr<Complex> Loss() {
    STRAKE_ASSIGN_OR_RETURN(const std::vector<Complex> losses, Losses());
    return std::accumulate(losses.begin(), losses.end(), Complex(0));
  }

  // Computes its complete gradients, in the arena.
  absl::Status Backward() {
    const ActivationScope scope(ctx_.context().arena());
    TransformerSaved saved;
    STRAKE_RETURN_IF_ERROR(
        model_.ForwardForTraining(ctx_, tokens_, targets_, kSeqLen, /*scale=*/1, &saved, documents_)
            .status());
    STRAKE_RETURN_IF_ERROR(model_.Backward(ctx_, &saved));
    STRAKE_ASSIGN_OR_RETURN(const PartialGradients partial,
                            PartialGradients::Create(trained_, tp_));
    return partial.Sum(ctx_, {{0, trained_.grads()}});
  }

  // Weight and gradient `index` of the index space.
  Complex& Weight(int64_t index) { return trained_.values().data<Complex>()[index]; }
  double Grad(int64_t index) const { return trained_.grads().data<Complex>()[index].real(); }

  // By tensor and element: the position in this rank's index space, or -1. The order is the same on
  // all ranks.
  std::map<std::string, std::vector<int64_t>> Indices() const {
    std::map<std::string, std::vector<int64_t>> indices;
    testing::ForEachElement(
        trained_, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
          const SegmentSlice& slice = segment.slice;
          auto& tensor = indices[segment.name];
          tensor.resize(slice.full_rows * slice.full_columns, -1);
          tensor[full_index] = index;
        });
    return indices;
  }

 private:
  testing::TestContext ctx_;
  testing::TestTensor tokens_, targets_, positions_;
  Documents documents_;
  TensorParallel tp_;
  ParameterArena weights_, adapters_;
  Transformer model_;
  ParameterArena& trained_;
};

// d loss / d (element of the full tensor): both ranks run, and those that hold the element take the
// step.
absl::StatusOr<double> ComplexStep(RankModel* rank, int64_t index) {
  if (index < 0) {
    STRAKE_ASSIGN_OR_RETURN(const Complex loss, rank->Loss());
    return loss.imag() / kComplexStep;
  }
  const Complex weight = rank->Weight(index);
  rank->Weight(index) = weight + Complex(0, kComplexStep);
  STRAKE_ASSIGN_OR_RETURN(const Complex loss, rank->Loss());
  rank->Weight(index) = weight;
  return loss.imag() / kComplexStep;
}

// Compares this rank's part of every tensor, and returns the model's number of elements.
absl::StatusOr<int64_t> CompareEveryGradient(RankModel* rank) {
  STRAKE_RETURN_IF_ERROR(rank->SetWeights());
  STRAKE_RETURN_IF_ERROR(rank->Backward());
  int64_t num_elements = 0;
  for (const auto& [name, indices] : rank->Indices()) {
    std::vector<double> actual, expected;
    for (const int64_t index : indices) {
      STRAKE_ASSIGN_OR_RETURN(const double derivative, ComplexStep(rank, index));
      expected.push_back(derivative);
      actual.push_back(index < 0 ? derivative : rank->Grad(index));
    }
    // Infinite where all derivatives are 0.
    EXPECT_LE(testing::RelativeError(actual, expected), 1e-12) << name;
    num_elements += static_cast<int64_t>(indices.size());
  }
  return num_elements;
}

class LayoutComplexStepTest
    : public ::testing::TestWithParam<std::tuple<testing::LayoutModel, bool, bool>> {};

TEST_P(LayoutComplexStepTest, EveryGradientOnTwoRanks) {
  const auto& [model, tied, sequence_parallel] = GetParam();
  const ModelConfig config = TinyConfig(model, tied);
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 1, .cp = 1, .tp = 2}, {.timeout = std::chrono::minutes(1), .check = true},
      [&, tied = tied, sp = sequence_parallel](const Mesh& mesh) -> absl::Status {
        RankModel rank(config, mesh, sp, /*packed=*/tied);
        STRAKE_ASSIGN_OR_RETURN(const int64_t num_elements, CompareEveryGradient(&rank));
        EXPECT_EQ(num_elements, NumParameters(config));
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

// B is not 0, and what is frozen has no gradient.
TEST_P(LayoutComplexStepTest, EveryAdaptersGradientOnTwoRanks) {
  const auto& [model, tied, sequence_parallel] = GetParam();
  ModelConfig config = TinyConfig(model, tied);
  config.lora = {.rank = 2, .alpha = 3};
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 1, .cp = 1, .tp = 2}, {.timeout = std::chrono::minutes(1), .check = true},
      [&, tied = tied, sp = sequence_parallel](const Mesh& mesh) -> absl::Status {
        RankModel rank(config, mesh, sp, /*packed=*/tied);
        STRAKE_ASSIGN_OR_RETURN(const int64_t num_elements, CompareEveryGradient(&rank));
        EXPECT_EQ(num_elements, NumAdapterParameters(config));
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

// The losses of tokens in documents, on so many ranks.
std::vector<Complex> PackedLosses(const ModelConfig& config, int tp, bool sequence_parallel) {
  std::vector<Complex> losses;
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 1, .cp = 1, .tp = tp}, {.timeout = std::chrono::minutes(1), .check = true},
      [&](const Mesh& mesh) -> absl::Status {
        RankModel rank(config, mesh, sequence_parallel, /*packed=*/true);
        STRAKE_RETURN_IF_ERROR(rank.SetWeights());
        STRAKE_ASSIGN_OR_RETURN(std::vector<Complex> result, rank.Losses());
        if (mesh.communicator(MeshAxis::kTp).rank() == 0) losses = std::move(result);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return losses;
}

// Learned positions are of a rank's own tokens, RoPE's and attention's of all.
TEST_P(LayoutComplexStepTest, DocumentsHaveTheLossesOfOneRank) {
  const auto& [model, tied, sequence_parallel] = GetParam();
  const ModelConfig config = TinyConfig(model, tied);
  const std::vector<Complex> expected = PackedLosses(config, 1, false),
                             actual = PackedLosses(config, 2, sequence_parallel);
  ASSERT_EQ(actual.size(), kTokens);
  ASSERT_EQ(expected.size(), kTokens);
  for (int64_t n = 0; n < kTokens; ++n) {
    EXPECT_NEAR(actual[n].real(), expected[n].real(), 1e-12 * expected[n].real()) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LayoutComplexStepTest,
                         ::testing::Combine(::testing::ValuesIn(testing::LayoutModels()),
                                            ::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return std::get<0>(info.param).name +
                                  (std::get<1>(info.param) ? "_tied" : "_untied") +
                                  (std::get<2>(info.param) ? "_sequence_parallel" : "");
                         });

}  // namespace
}  // namespace strake
