// What an engine makes of documents and of tokens without a target: documents that are packed into
// a sequence train as each does alone, and a mean is over the targets of the global batch, however
// they are divided.
#include "core/ops/documents.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/full_tensors.h"
#include "tests/layout_case.h"
#include "tests/layout_model.h"
#include "tests/train_layout.h"
#include "train/engine/engine.h"
#include "train/engine/step_record.h"

namespace strake::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSeqLen = LayoutCase::kSeqLen;

// Untied, so that the gradient of an embedding comes from its token alone.
LayoutCase CaseOf(const std::string& model, DType dtype) {
  LayoutCase c = {.model = model, .tied = false, .num_heads = 6, .num_kv_heads = 6};
  c.dtype = dtype;
  return c;
}

struct Gradients {
  double loss = 0;                // the sum over the targets
  std::vector<double> all;        // of the parameters' index space
  std::vector<double> embedding;  // [vocabulary, C], the first parameter's
};

// An engine of one rank.
class Model {
 public:
  explicit Model(const EngineOptions& options) : mesh_(Mesh::SingleRank()) {
    auto engine = Engine::Create(options, mesh_);
    CHECK(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    SetWeights(engine_->team(), &engine_->parameters());
    CHECK(engine_->optimizer().SetMasters().ok());
  }

  Engine& engine() { return *engine_; }

  // The weights stay.
  Gradients Run(const Tensor& tokens, const Tensor& targets, const Documents& documents = {}) {
    CHECK(engine_->AccumulateGradients(tokens, targets, /*scale=*/0.5, /*last=*/true, documents)
              .ok());
    CHECK(engine_->SumGradients().ok());
    Gradients gradients;
    gradients.all = ToDoubles(engine_->parameters().grads());
    gradients.embedding = ToDoubles(engine_->parameters().records().front().parameter.grad);
    CHECK(engine_->Update({.lr = 0, .weight_decay = 0, .step = 1}, /*clip_norm=*/0).ok());
    gradients.loss = engine_->Agree(/*stop=*/false)->loss_sum;
    return gradients;
  }

 private:
  static std::vector<double> ToDoubles(const Tensor& x) {
    std::vector<double> values(x.num_elements());
    for (size_t i = 0; i < values.size(); ++i) values[i] = GetElement(x, i).real();
    return values;
  }

  Mesh mesh_;
  std::unique_ptr<Engine> engine_;
};

EngineOptions PackedOptions(const LayoutCase& layout) {
  EngineOptions options = layout.Options();
  options.micro_batch = 1;
  options.documents = true;
  return options;
}

// Two documents in a sequence, or one: the first has tokens from the vocabulary's first half alone,
// the second from its other. Every token has a target, or those of one document.
struct Packed {
  Packed(const LayoutCase& layout, int64_t first_length)
      : lengths(first_length < kSeqLen ? std::vector<int64_t>{first_length, kSeqLen - first_length}
                                       : std::vector<int64_t>{first_length}),
        tokens(DType::kI32, {kSeqLen}),
        targets(DType::kI32, {kSeqLen}),
        positions(DType::kI32, {kSeqLen}) {
    FillTokens(tokens, 1, layout.vocab_size / 2);
    FillTokens(targets, 2, layout.vocab_size);
    for (int64_t n = first_length; n < kSeqLen; ++n) {
      tokens->data<int32_t>()[n] += static_cast<int32_t>(layout.vocab_size) / 2;
    }
    CHECK(SetDocumentPositions(lengths, kSeqLen, positions).ok());
  }

  Documents documents() const { return {positions, lengths}; }
  int64_t Begin(int document) const { return document == 0 ? 0 : lengths[0]; }
  int64_t End(int document) const { return Begin(document) + lengths[document]; }
  void LearnOnly(int document, const TestTensor& to) const {
    for (int64_t n = 0; n < kSeqLen; ++n) {
      const bool learnt = n >= Begin(document) && n < End(document);
      to->data<int32_t>()[n] = learnt ? targets->data<int32_t>()[n] : kNoTarget;
    }
  }

  std::vector<int64_t> lengths;
  TestTensor tokens, targets, positions;
};

double MaxOf(const std::vector<double>& x) {
  double max = 0;
  for (const double each : x) max = std::max(max, std::abs(each));
  return max;
}

// The document as a sequence of its own. The angles of phi3 are other ones for shorter sequences,
// so its sequence has padding.
Gradients Alone(const LayoutCase& layout, const Packed& packed, int document) {
  const int64_t length = packed.lengths[document];
  EngineOptions options = layout.Options();
  options.micro_batch = 1;
  options.seq_len = layout.model == "phi3" ? kSeqLen : length;
  const TestTensor tokens(DType::kI32, {options.seq_len}), targets(DType::kI32, {options.seq_len});
  FillConstant(tokens, 0);
  FillConstant(targets, kNoTarget);
  const auto copy = [&](const Tensor& from, const Tensor& to) {
    std::copy_n(from.data<int32_t>() + packed.Begin(document), length, to.data<int32_t>());
  };
  copy(packed.tokens, tokens);
  copy(packed.targets, targets);
  return Model(options).Run(tokens, targets);
}

// See layout_equality_test.cc: sums of at most 48 terms, and two over the vocabulary.
double Tolerance(const LayoutCase& layout) {
  if (layout.dtype == DType::kF64) return 1e-12;
  const double num_roundings = 2 * (55 * 48.0 + 2 * static_cast<double>(layout.vocab_size));
  return 4 * std::sqrt(num_roundings) * UnitRoundoff(layout.dtype);
}

class DocumentsTest : public ::testing::TestWithParam<std::string> {};

// The loss and the gradient that a document adds are those of the document alone, for each pair of
// lengths; and nothing of it reaches the other's tokens.
TEST_P(DocumentsTest, PackedTrainsAsAlone) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const LayoutCase layout = CaseOf(GetParam(), dtype);
    Model model(PackedOptions(layout));
    const int64_t hidden = layout.Model().hidden_size, half = layout.vocab_size / 2;
    for (int64_t length = 1; length <= kSeqLen; ++length) {
      const Packed packed(layout, length);
      const TestTensor targets(DType::kI32, {kSeqLen});
      for (size_t d = 0; d < packed.lengths.size(); ++d) {
        SCOPED_TRACE(::testing::Message()
                     << DTypeName(dtype) << ", document " << d << " after " << length);
        packed.LearnOnly(static_cast<int>(d), targets);
        const Gradients got = model.Run(packed.tokens, targets, packed.documents());
        const Gradients expected = Alone(layout, packed, static_cast<int>(d));
        const double tolerance = Tolerance(layout), largest = MaxOf(expected.all);
        EXPECT_GT(expected.loss, 0.1);
        EXPECT_NEAR(got.loss, expected.loss, tolerance * expected.loss);
        ASSERT_EQ(got.all.size(), expected.all.size());
        double error = 0;
        for (size_t i = 0; i < got.all.size(); ++i) {
          error = std::max(error, std::abs(got.all[i] - expected.all[i]));
        }
        EXPECT_LE(error, tolerance * largest);
        for (int64_t v = 0; v < layout.vocab_size; ++v) {
          if ((v < half) == (d == 0)) continue;
          for (int64_t c = 0; c < hidden; ++c) {
            ASSERT_EQ(got.embedding[v * hidden + c], 0) << "token " << v;
          }
        }
      }
    }
  }
}

// Other tokens in one document change no bit of the other's loss and gradient.
TEST_P(DocumentsTest, AnotherDocumentMovesNoBit) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBf16}) {
    const LayoutCase layout = CaseOf(GetParam(), dtype);
    Model model(PackedOptions(layout));
    for (const int64_t length : {1, 5, 11}) {
      for (const int document : {0, 1}) {
        const Packed packed(layout, length), changed(layout, length);
        for (int64_t n = changed.Begin(1 - document); n < changed.End(1 - document); ++n) {
          int32_t& token = changed.tokens->data<int32_t>()[n];
          token = (token + 7) % static_cast<int32_t>(layout.vocab_size);
        }
        const TestTensor targets(DType::kI32, {kSeqLen});
        packed.LearnOnly(document, targets);
        const Gradients one = model.Run(packed.tokens, targets, packed.documents());
        const Gradients other = model.Run(changed.tokens, targets, packed.documents());
        EXPECT_EQ(one.loss, other.loss) << DTypeName(dtype) << length;
        EXPECT_TRUE(one.all == other.all) << DTypeName(dtype) << length;
        // As a row in which they see each other, they do change it.
        if (document == 0) continue;
        EngineOptions options = PackedOptions(layout);
        options.documents = false;
        Model plain(options);
        EXPECT_NE(plain.Run(packed.tokens, targets).loss, plain.Run(changed.tokens, targets).loss);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DocumentsTest, [] {
  std::vector<std::string> names;
  for (const LayoutModel& model : LayoutModels()) names.push_back(model.name);
  return ::testing::ValuesIn(names);
}());

// --- The mean over a global batch's targets. ---

constexpr int64_t kSequences = 52, kTokens = kSequences * kSeqLen, kTargets = 303;

// Of its two halves, the first has 3 targets, and the second 300.
struct UnevenBatch {
  explicit UnevenBatch(const LayoutCase& layout)
      : tokens(DType::kI32, {kTokens}), targets(DType::kI32, {kTokens}) {
    FillTokens(tokens, 1, layout.vocab_size);
    FillTokens(targets, 2, layout.vocab_size);
    for (int64_t n = 0; n < kTokens; ++n) {
      const bool learnt =
          n == 5 || n == 100 || n == kTokens / 2 - 1 || (n >= kTokens / 2 && n < kTokens / 2 + 300);
      if (!learnt) targets->data<int32_t>()[n] = kNoTarget;
    }
  }
  TestTensor tokens, targets;
};

struct Updated {
  double loss = 0, norm = 0;
  std::vector<double> weights;
};

// One step, in which the losses count times pass_scale * grad_scale.
absl::StatusOr<Updated> StepOf(const LayoutCase& layout, double pass_scale, double grad_scale,
                               const Mesh& mesh) {
  STRAKE_ASSIGN_OR_RETURN(const auto engine, MakeEngine(layout, mesh));
  const UnevenBatch batch(layout);
  for (int m = 0; m < layout.num_micro_batches; ++m) {
    const int64_t tokens = layout.micro_batch * kSeqLen;
    const int64_t begin = (m * layout.dp + mesh.coordinates().dp) * tokens;
    STRAKE_RETURN_IF_ERROR(engine->AccumulateGradients(
        batch.tokens->Rows(begin, begin + tokens), batch.targets->Rows(begin, begin + tokens),
        pass_scale, /*last=*/m + 1 == layout.num_micro_batches));
  }
  STRAKE_RETURN_IF_ERROR(engine->SumGradients());
  Updated updated;
  STRAKE_ASSIGN_OR_RETURN(updated.norm,
                          engine->Update({.lr = 1e-2, .eps = 1e-3, .weight_decay = 0.1, .step = 1},
                                         kClipNorm, grad_scale));
  STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine->Agree(/*stop=*/false));
  updated.loss = all.loss_sum * pass_scale * grad_scale;
  STRAKE_RETURN_IF_ERROR(engine->GatherWeights());
  // Without the padding between buckets, which ranks and ZeRO decide.
  for (const ParameterRecord& record : engine->parameters().records()) {
    const Tensor& values = record.parameter.value;
    for (int64_t i = 0; i < values.num_elements(); ++i) {
      updated.weights.push_back(GetElement(values, i).real());
    }
  }
  return updated;
}

// Of the first rank: without tensor parallelism all have the same.
Updated StepOf(const LayoutCase& layout, double pass_scale, double grad_scale) {
  CHECK_EQ(layout.GlobalBatch(), kSequences);
  Updated first;
  const absl::Status status = RunOnThreads(
      layout.Sizes(), {.timeout = std::chrono::minutes(1), .check = true},
      [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(Updated updated, StepOf(layout, pass_scale, grad_scale, mesh));
        if (mesh.rank() == 0) first = std::move(updated);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return first;
}

LayoutCase UnevenCase(DType dtype, int dp, int num_micro_batches, int zero) {
  LayoutCase c = CaseOf("llama", dtype);
  c.dp = dp;
  c.zero = zero;
  c.num_micro_batches = num_micro_batches;
  c.micro_batch = kSequences / dp / num_micro_batches;
  c.bucket_bytes = 4000;
  return c;
}

TEST(GradScaleTest, TheMeanIsOverTheTargetsOfTheGlobalBatch) {
  const Updated expected = StepOf(UnevenCase(DType::kF64, 1, 1, 0), 1.0 / kTargets, 1);
  EXPECT_GT(expected.norm, kClipNorm);
  for (const auto& [dp, num_micro_batches, zero] :
       {std::tuple(1, 2, 0), {2, 1, 0}, {4, 1, 1}, {2, 2, 2}, {1, 13, 0}, {13, 1, 2}}) {
    SCOPED_TRACE(::testing::Message() << dp << " ranks, " << num_micro_batches << " micro-batches");
    const Updated got = StepOf(UnevenCase(DType::kF64, dp, num_micro_batches, zero), 1.0 / kTokens,
                               double{kTokens} / kTargets);
    EXPECT_NEAR(got.loss, expected.loss, 1e-12 * expected.loss);
    EXPECT_NEAR(got.norm, expected.norm, 1e-12 * expected.norm);
    EXPECT_LE(RelativeError(got.weights, expected.weights), 1e-12);
  }
}

// A power of two is exact in every number that it scales.
TEST(GradScaleTest, ScalesAsThePassesDo) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int zero : {0, 1, 2}) {
      const LayoutCase layout = UnevenCase(dtype, 2, 2, zero);
      const Updated expected = StepOf(layout, 0x1p-6, 1), got = StepOf(layout, 0x1p-9, 8);
      EXPECT_EQ(got.norm, expected.norm) << DTypeName(dtype) << zero;
      EXPECT_TRUE(got.weights == expected.weights) << DTypeName(dtype) << zero;
      EXPECT_GT(got.norm, kClipNorm);
      EXPECT_EQ(StepOf(layout, 0x1p-9, 1).norm, expected.norm / 8) << DTypeName(dtype) << zero;
    }
  }
}

// --- The rest of an engine's contract. ---

TEST(SequenceLossesTest, AreThoseOfEachSequence) {
  const LayoutCase layout = CaseOf("gpt2", DType::kF64);
  EngineOptions options = layout.Options();
  options.micro_batch = 2;
  options.step_sequences = 3;
  Model model(options);
  Engine& engine = model.engine();
  for (int step = 1; step <= 2; ++step) {
    const TestTensor tokens(DType::kI32, {3 * kSeqLen}), targets(DType::kI32, {3 * kSeqLen});
    FillTokens(tokens, 2 * step, layout.vocab_size);
    FillTokens(targets, 2 * step + 1, layout.vocab_size);
    // Of the second sequence nothing is learnt, of the third the last token.
    for (int64_t n = kSeqLen; n < 3 * kSeqLen - 1; ++n) targets->data<int32_t>()[n] = kNoTarget;
    std::vector<double> expected;
    for (int64_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(engine
                      .EvaluateLoss(tokens->Rows(i * kSeqLen, (i + 1) * kSeqLen),
                                    targets->Rows(i * kSeqLen, (i + 1) * kSeqLen))
                      .ok());
      expected.push_back(engine.Agree(/*stop=*/false)->loss_sum);
    }
    // A micro-batch of two sequences, and a last one of one.
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 2}, {2, 3}}) {
      ASSERT_TRUE(engine
                      .AccumulateGradients(tokens->Rows(begin * kSeqLen, end * kSeqLen),
                                           targets->Rows(begin * kSeqLen, end * kSeqLen), 0.25,
                                           /*last=*/end == 3)
                      .ok());
    }
    ASSERT_TRUE(engine.SumGradients().ok());
    ASSERT_TRUE(engine.Update({.lr = 1e-2, .step = step}, /*clip_norm=*/1, /*grad_scale=*/3).ok());
    const absl::Span<const double> losses = engine.SequenceLosses();
    ASSERT_EQ(losses.size(), 3);
    double sum = 0;
    for (int i = 0; i < 3; ++i) {
      EXPECT_NEAR(losses[i], expected[i], 1e-12 * expected[i]) << i;
      sum += losses[i];
    }
    EXPECT_GT(losses[0], 10);
    EXPECT_EQ(losses[1], 0);
    EXPECT_GT(losses[2], 0.1);
    EXPECT_NEAR(engine.Agree(/*stop=*/false)->loss_sum, sum, 1e-12 * sum);
  }
}

TEST(EngineDocumentsTest, WrongDocumentsAndTargetsAreNamed) {
  const LayoutCase layout = CaseOf("llama", DType::kF32);
  Model model(PackedOptions(layout));
  const Packed packed(layout, 5);
  const auto error = [&](const Tensor& targets, const Documents& documents) {
    const absl::Status status = model.engine().EvaluateLoss(packed.tokens, targets, documents);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    // Ends the step.
    EXPECT_EQ(Model(PackedOptions(layout))
                  .engine()
                  .AccumulateGradients(packed.tokens, targets, 1, true, documents),
              status);
    return std::string(status.message());
  };
  const std::vector<int64_t> longer = {5, 8}, shorter = {5, 6}, others = {6, 6};
  EXPECT_THAT(error(packed.targets, {packed.positions, longer}),
              HasSubstr("[engine] document 1 has 8 tokens from token 5 of a sequence on"));
  EXPECT_THAT(error(packed.targets, {packed.positions, shorter}),
              HasSubstr("[engine] 2 documents have 11 tokens, the batch has 12"));
  EXPECT_THAT(error(packed.targets, {packed.positions, others}),
              HasSubstr("[engine] positions[5] is 0; the documents' lengths give 5"));
  for (const int32_t wrong : {-2, 47}) {
    const TestTensor targets(DType::kI32, {kSeqLen});
    FillConstant(targets, kNoTarget);
    targets->data<int32_t>()[3] = wrong;
    EXPECT_THAT(error(targets, packed.documents()),
                HasSubstr("target of row 3 of 12 is " + std::to_string(wrong)));
  }
  ASSERT_TRUE(model.engine().EvaluateLoss(packed.tokens, packed.targets, packed.documents()).ok());
}

TEST(EngineDocumentsDeathTest, DocumentsNeedTheOption) {
  const LayoutCase layout = CaseOf("llama", DType::kF32);
  const Packed packed(layout, 5);
  EngineOptions options = PackedOptions(layout);
  Model with(options);
  EXPECT_DEATH((void)with.engine().EvaluateLoss(packed.tokens, packed.targets),
               "documents are missing");
  options.documents = false;
  Model without(options);
  EXPECT_DEATH(
      (void)without.engine().EvaluateLoss(packed.tokens, packed.targets, packed.documents()),
      "documents without the option");
  EXPECT_DEATH((void)without.engine().Update({.lr = 0, .step = 1}, 0, /*grad_scale=*/0),
               "grad_scale 0");
}

double AttentionFlops(const strake::StepRecord& record) {
  double flops = 0;
  for (const OpCall& call : record.calls) {
    if (absl::string_view(call.op) == "causal_attention") flops += call.times * call.cost.flops;
  }
  return flops;
}

// Work is counted of the given documents, or of the longest; memory does not depend on them.
TEST(EngineDocumentsTest, APlanHoldsForAnyDocuments) {
  for (const Device device : {Device::kCpu, Device::kCuda}) {
    LayoutCase layout = CaseOf("llama", device == Device::kCuda ? DType::kBf16 : DType::kF32);
    layout.device = device;
    EngineOptions options = layout.Options();
    const MeshVector sizes = layout.Sizes();
    const strake::StepRecord plain = RecordStep(options, sizes, 0, 3);
    options.documents = true;
    const strake::StepRecord longest = RecordStep(options, sizes, 0, 3);
    const std::vector<int64_t> lengths = {6, 6, 4, 4, 4};  // of two sequences
    const strake::StepRecord packed = RecordStep(options, sizes, 0, 3, lengths);
    EXPECT_GT(AttentionFlops(plain), 0);
    EXPECT_EQ(AttentionFlops(longest), AttentionFlops(plain));
    const auto pairs = [](double length) { return length * (length + 1) / 2; };
    EXPECT_DOUBLE_EQ(AttentionFlops(packed) / AttentionFlops(plain),
                     (2 * pairs(6) + 3 * pairs(4)) / (2 * pairs(12)));
    for (const strake::StepRecord* record : {&longest, &packed}) {
      EXPECT_EQ(record->memory.total_bytes(), plain.memory.total_bytes());
    }
    EXPECT_EQ(PlanMemory(options, sizes, 0).total_bytes(), plain.memory.total_bytes());
  }
}

}  // namespace
}  // namespace strake::testing
