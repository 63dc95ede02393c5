// Every gradient of a model on two ranks, by the complex step through their collectives, or through
// the messages of a pipeline or of attention.
#include <algorithm>
#include <chrono>
#include <complex>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
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
#include "models/model_parts.h"
#include "models/sliced_models.h"
#include "models/transformer.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stage_links.h"
#include "parallel/tensor/partial_gradients.h"
#include "tests/full_tensors.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"
#include "train/engine/engine_options.h"
#include "train/engine/stage_models.h"

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
const std::vector<int64_t> kWholeSequences(kTokens / kSeqLen, kSeqLen);

EngineOptions OptionsOf(const ModelConfig& config) {
  return {.model = config,
          .seq_len = kSeqLen,
          .micro_batch = kTokens / kSeqLen,
          .logits_chunk = kChunks};
}

// One rank's part of the model, in c128; each sequence is one document, or kDocuments are packed.
class RankModel {
 public:
  RankModel(const ModelConfig& config, const Mesh& mesh, bool sequence_parallel, bool packed,
            ContextComm comm = ContextComm::kRing)
      : ctx_(OpSet::kReference, /*num_threads=*/1, size_t{1} << 22),
        config_(config),
        tp_(mesh.communicator(MeshAxis::kTp), sequence_parallel),
        cp_(mesh.communicator(MeshAxis::kCp), comm),
        pp_(mesh.communicator(MeshAxis::kPp)),
        num_tokens_(kTokens / cp_.size()),
        tokens_(DType::kI32, {num_tokens_}),
        targets_(DType::kI32, {num_tokens_}),
        positions_(DType::kI32, {num_tokens_}),
        models_(MakeStageModels(OptionsOf(config), pp_.size(), pp_.rank(), tp_, &weights_,
                                &adapters_, cp_)),
        trained_(config.lora.enabled() ? adapters_ : weights_) {
    FillOwn(1, tokens_);
    FillOwn(2, targets_);
    if (!packed && cp_.size() == 1) return;
    const std::vector<int64_t>& lengths = packed ? kDocuments : kWholeSequences;
    CHECK(SetDocumentPositions(lengths, kSeqLen, positions_, cp_.chunks()).ok());
    documents_ = {positions_, lengths};
  }

  absl::Status SetWeights() {
    for (ParameterArena* arena : {&weights_, &adapters_}) {
      if (arena->num_elements() == 0) continue;
      STRAKE_RETURN_IF_ERROR(arena->Allocate(DType::kC128, /*with_gradients=*/arena == &trained_));
      testing::SetWeights(ctx_.context().team(), arena);
    }
    if (pp_.size() == 1) return absl::OkStatus();
    STRAKE_ASSIGN_OR_RETURN(links_, StageLinks::Create(pp_, /*chunks=*/1));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Complex>> Losses() {
    const ActivationScope scope(ctx_.context().arena());
    TransformerSaved saved;
    const ModelParts model = Parts();
    STRAKE_ASSIGN_OR_RETURN(
        Tensor loss, model.Forward(ctx_, tp_.NumLocalTokens(num_tokens_),
                                   [&](const Context& ctx, int i, const Tensor& x) {
                                     saved.input = x;
                                     return model.part(i).Forward(ctx, tokens_, targets_, SeqLen(),
                                                                  &saved, documents_);
                                   }));
    STRAKE_ASSIGN_OR_RETURN(loss, model.Share(ctx_, loss, {num_tokens_}));
    return std::vector<Complex>(loss.data<Complex>(), loss.data<Complex>() + num_tokens_);
  }

  // The sum of the losses of all ranks' tokens.
  absl::StatusOr<Complex> Loss() {
    STRAKE_ASSIGN_OR_RETURN(const std::vector<Complex> losses, Losses());
    Complex sum = std::accumulate(losses.begin(), losses.end(), Complex(0));
    STRAKE_RETURN_IF_ERROR(SumOverContext(Tensor(&sum, DType::kC128, {1})));
    return sum;
  }

  // Computes its complete gradients, in the arena.
  absl::Status Backward() {
    const ActivationScope scope(ctx_.context().arena());
    TransformerSaved saved;
    const Transformer& model = *models_.front();
    STRAKE_ASSIGN_OR_RETURN(saved.input,
                            Parts().ReceiveInput(ctx_, 0, tp_.NumLocalTokens(num_tokens_)));
    STRAKE_ASSIGN_OR_RETURN(const Tensor y,
                            model.ForwardForTraining(ctx_, tokens_, targets_, SeqLen(), /*scale=*/1,
                                                     &saved, documents_));
    if (!model.is_last()) {
      STRAKE_RETURN_IF_ERROR(links_->Send(PipelinePass::kForward, y).Wait().status());
      const Tensor dy = ctx_.context().arena().Allocate(y.dtype(), y.shape());
      STRAKE_ASSIGN_OR_RETURN(saved.output_grad,
                              links_->Receive(PipelinePass::kInputGradient, dy).Wait());
    }
    STRAKE_RETURN_IF_ERROR(model.Backward(ctx_, &saved));
    if (!model.is_first()) {
      STRAKE_RETURN_IF_ERROR(links_->Send(PipelinePass::kInputGradient, saved.dx).Wait().status());
    }
    STRAKE_RETURN_IF_ERROR(AddOtherUseOfTable());
    STRAKE_RETURN_IF_ERROR(SumOverContext(trained_.grads()));
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
    const auto tensor_of = [&](const ParameterSegment& segment) -> std::vector<int64_t>& {
      auto& tensor = indices[segment.name];
      tensor.resize(segment.slice.full_rows * segment.slice.full_columns, -1);
      return tensor;
    };
    ParameterArena weights, adapters;
    const Transformer whole(config_, kSeqLen, &weights, tp_, kChunks, ActivationRecompute::kNone,
                            &adapters);
    ParameterArena& all = config_.lora.enabled() ? adapters : weights;
    all.AllocateDryRun(DType::kC128);
    testing::ForEachElement(
        all, [&](const ParameterSegment& segment, int64_t, int64_t) { tensor_of(segment); });
    testing::ForEachElement(
        trained_, [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
          tensor_of(segment)[full_index] = index;
        });
    return indices;
  }

 private:
  int64_t SeqLen() const { return cp_.chunks().NumLocal(kSeqLen); }

  void FillOwn(uint64_t seed, const Tensor& own) const {
    const testing::TestTensor all(DType::kI32, {kTokens});
    testing::FillTokens(all, seed, config_.vocab_size);
    const std::vector<int32_t> part =
        cp_.chunks().Take(all->data<int32_t>(), kTokens / kSeqLen, kSeqLen);
    std::copy(part.begin(), part.end(), own.data<int32_t>());
  }

  absl::Status SumOverContext(const Tensor& x) const {
    return cp_.communicator().AllReduceSum(x).Wait().status();
  }

  ModelParts Parts() {
    if (!links_.has_value()) return *models_.front();
    return {models_, &pp_, &*links_};
  }

  // The gradient of a tied table that the other end of the pipeline has.
  absl::Status AddOtherUseOfTable() {
    for (const ParameterRecord& record : trained_.records()) {
      if (!record.own_bucket) continue;
      const int other = 1 - pp_.rank();
      const Tensor own = trained_.grads().Rows(record.offset, record.end());
      const testing::TestTensor theirs(own.dtype(), own.shape());
      auto sent = pp_.Send(own, other);
      STRAKE_RETURN_IF_ERROR(pp_.Recv(theirs, other).Wait().status());
      STRAKE_RETURN_IF_ERROR(sent.Wait().status());
      for (int64_t i = 0; i < own.num_elements(); ++i) {
        own.data<Complex>()[i] += theirs->data<Complex>()[i];
      }
    }
    return absl::OkStatus();
  }

  testing::TestContext ctx_;
  const ModelConfig config_;
  TensorParallel tp_;
  ContextParallel cp_;
  Communicator& pp_;
  const int64_t num_tokens_;
  testing::TestTensor tokens_, targets_, positions_;
  Documents documents_;
  ParameterArena weights_, adapters_;
  std::vector<std::unique_ptr<Transformer>> models_;
  std::optional<StageLinks> links_;  // between two stages
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

// The table of a tied model is on both.
TEST_P(LayoutComplexStepTest, EveryGradientInTwoStages) {
  const auto& [model, tied, adapters] = GetParam();
  ModelConfig config = TinyConfig(model, tied);
  if (adapters) config.lora = {.rank = 2, .alpha = 3};
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 2, .cp = 1, .tp = 1}, {.timeout = std::chrono::minutes(1), .check = true},
      [&, tied = tied, adapters = adapters](const Mesh& mesh) -> absl::Status {
        RankModel rank(config, mesh, /*sequence_parallel=*/false, /*packed=*/tied);
        STRAKE_ASSIGN_OR_RETURN(const int64_t num_elements, CompareEveryGradient(&rank));
        EXPECT_EQ(num_elements, adapters ? NumAdapterParameters(config) : NumParameters(config));
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_P(LayoutComplexStepTest, EveryGradientOfTwoRanksThatShareSequences) {
  const auto& [model, tied, gathered] = GetParam();
  const ModelConfig config = TinyConfig(model, tied);
  const ContextComm comm = gathered ? ContextComm::kAllGather : ContextComm::kRing;
  const absl::Status status = RunOnThreads(
      {.dp = 1, .pp = 1, .cp = 2, .tp = 1}, {.timeout = std::chrono::minutes(1), .check = true},
      [&, tied = tied](const Mesh& mesh) -> absl::Status {
        RankModel rank(config, mesh, /*sequence_parallel=*/false, /*packed=*/tied, comm);
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
