#include "models/transformer.h"

#include <complex>
#include <string>
#include <utility>
#include <vector>

#include "core/ops/documents.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/activation_recompute.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/feature_models.h"
#include "models/initialize.h"
#include "models/tiny_model.h"

namespace strake {
namespace {

using testing::ComplexStepGradient;
using testing::FillTokens;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::TinyConfig;

constexpr int64_t kSeqLen = 5;
constexpr int64_t kTokens = 2 * kSeqLen;

LogitsChunk ChunksOf(int64_t rows) { return {.max_bytes = 0, .min_rows = rows}; }

struct TestModel {
  TestModel(const ModelConfig& config, DType dtype, OpSet op_set = OpSet::kAuto, int threads = 2,
            const LogitsChunk& chunk = LogitsChunk(),
            ActivationRecompute recompute = ActivationRecompute::kNone)
      : ctx(op_set, threads, size_t{1} << 24),
        tokens(DType::kI32, {kTokens}),
        targets(DType::kI32, {kTokens}),
        model(config, kSeqLen, &arena, TensorParallel(), chunk, recompute) {
    CHECK(arena.Allocate(dtype, true).ok());
    ThreadTeam team(1);
    CHECK(InitializeParameters(3, team, &arena).ok());
    FillTokens(tokens, 1, config.vocab_size);
    FillTokens(targets, 2, config.vocab_size);
  }

  // Returns the sum of the losses, and with `backward` adds the gradients of `scale` times it.
  std::complex<double> Run(bool backward, double scale = 1) {
    ActivationScope scope(ctx.context().arena());
    TransformerSaved saved;
    const auto loss = backward
                          ? model.ForwardForTraining(ctx, tokens, targets, kSeqLen, scale, &saved)
                          : model.Forward(ctx, tokens, targets, kSeqLen, &saved);
    CHECK(loss.ok()) << loss.status();
    std::complex<double> sum = 0;
    for (int64_t i = 0; i < kTokens; ++i) sum += testing::GetElement(*loss, i);
    if (backward) CHECK(model.Backward(ctx, &saved).ok());
    return sum;
  }

  TestContext ctx;
  TestTensor tokens, targets;
  ParameterArena arena;
  Transformer model;
};

class TransformerTest : public ::testing::TestWithParam<std::tuple<const ModelFamily*, bool>> {
 protected:
  ModelConfig Config() const {
    return TinyConfig(std::get<0>(GetParam()), std::get<1>(GetParam()));
  }
};

// With two chunks of logits; the next test shows that one chunk gives the same.
TEST_P(TransformerTest, EveryGradientByComplexStep) {
  TestModel m(Config(), DType::kC128, OpSet::kAuto, 2, ChunksOf(6));
  m.Run(/*backward=*/true);
  int64_t compared = 0;
  for (const ParameterRecord& record : m.arena.records()) {
    TestTensor expected(DType::kF64, record.shape());
    ComplexStepGradient(
        record.parameter.value, [&] { return m.Run(false); }, expected);
    EXPECT_GT(MaxAbs(expected), 1e-4) << record.name();
    EXPECT_LT(RelativeError(record.parameter.grad, expected), 1e-12) << record.name();
    compared += record.num_elements();
  }
  EXPECT_EQ(compared, NumParameters(Config()));
}

// Whole chunks, a ragged last one, and one row each. A product of fewer rows may add its terms in
// another order, and the layers below amplify the roundings, as in F32FollowsF64.
TEST_P(TransformerTest, ChunksOfLogitsChangeNothing) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    TestModel whole(Config(), dtype);
    const std::complex<double> loss = whole.Run(true);
    EXPECT_EQ(whole.Run(false), loss);
    whole.Run(true);  // adds
    const double bound = 20 * 4 * std::sqrt(12.0) * testing::UnitRoundoff(dtype);
    ASSERT_LT(dtype == DType::kF64 ? bound : 0, 1e-12);
    for (const int64_t rows : {5, 6, 9, 1}) {
      SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << ", chunks of " << rows);
      TestModel m(Config(), dtype, OpSet::kAuto, 2, ChunksOf(rows));
      EXPECT_NEAR(m.Run(true).real(), loss.real(), bound * loss.real());
      EXPECT_NEAR(m.Run(false).real(), loss.real(), bound * loss.real());
      m.Run(true);
      for (size_t i = 0; i < m.arena.records().size(); ++i) {
        const ParameterRecord& record = m.arena.records()[i];
        EXPECT_LT(RelativeError(record.parameter.grad, whole.arena.records()[i].parameter.grad),
                  bound)
            << record.name();
      }
    }
  }
}

TEST_P(TransformerTest, F32FollowsF64) {
  TestModel f64(Config(), DType::kF64);
  const double loss = f64.Run(true).real();
  for (const OpSet op_set : {OpSet::kAuto, OpSet::kReference}) {
    TestModel f32(Config(), DType::kF32, op_set);
    // About 20 ops in a row, each within a few roundings of sums of up to 12 terms, on activations
    // whose norms keep them near 1: 20 * 4 * sqrt(12) roundings, about 280.
    const double bound = 20 * 4 * std::sqrt(12.0) * testing::UnitRoundoff(DType::kF32);
    EXPECT_NEAR(f32.Run(true).real(), loss, bound * loss);
    for (size_t i = 0; i < f32.arena.records().size(); ++i) {
      const ParameterRecord& record = f32.arena.records()[i];
      EXPECT_LT(RelativeError(record.parameter.grad, f64.arena.records()[i].parameter.grad), bound)
          << record.name();
    }
  }
}

TEST_P(TransformerTest, GradientsAddUpOverMicroBatches) {
  TestModel once(Config(), DType::kF64), twice(Config(), DType::kF64);
  once.Run(true, 1.0);
  twice.Run(true, 0.25);
  twice.Run(true, 0.75);
  EXPECT_LT(RelativeError(twice.arena.grads(), once.arena.grads()), 1e-14);
}

// Loss and gradients of documents that are packed into sequences, against those of each document as
// a sequence of its own, which are added up.
void ExpectDocumentsAreAsAlone(const ModelConfig& config, ActivationRecompute recompute,
                               const std::vector<int64_t>& lengths) {
  TestModel packed(config, DType::kF64, OpSet::kAuto, 2, ChunksOf(6), recompute);
  TestModel alone(config, DType::kF64);
  const TestTensor positions(DType::kI32, {kTokens});
  ASSERT_EQ(SetDocumentPositions(lengths, kSeqLen, positions), absl::OkStatus());
  const ActivationScope scope(packed.ctx.context().arena());
  TransformerSaved saved;
  const auto loss = packed.model.ForwardForTraining(packed.ctx, packed.tokens, packed.targets,
                                                    kSeqLen, 0.5, &saved, {positions, lengths});
  ASSERT_TRUE(loss.ok()) << loss.status();
  ASSERT_TRUE(packed.model.Backward(packed.ctx, &saved).ok());
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    const ActivationScope document_scope(alone.ctx.context().arena());
    TransformerSaved document;
    const int64_t end = begin + length;
    const auto expected =
        alone.model.ForwardForTraining(alone.ctx, alone.tokens->Rows(begin, end),
                                       alone.targets->Rows(begin, end), length, 0.5, &document);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(alone.model.Backward(alone.ctx, &document).ok());
    EXPECT_LT(RelativeError(loss->Rows(begin, end), *expected), 1e-12) << begin;
    begin = end;
  }
  EXPECT_GT(MaxAbs(alone.arena.grads()), 0.1);
  EXPECT_LT(RelativeError(packed.arena.grads(), alone.arena.grads()), 1e-12);
}

TEST_P(TransformerTest, DocumentsAreAsAlone) {
  for (const auto recompute :
       {ActivationRecompute::kNone, ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
    ExpectDocumentsAreAsAlone(Config(), recompute, {2, 3, 5});
    ExpectDocumentsAreAsAlone(Config(), recompute, {1, 4, 1, 1, 1, 2});
  }
}

TEST_P(TransformerTest, WrongDocumentsAreAnError) {
  TestModel m(Config(), DType::kF32);
  const TestTensor positions(DType::kI32, {kTokens});
  TransformerSaved saved;
  const std::vector<int64_t> lengths = {6, 4};
  const auto loss =
      m.model.Forward(m.ctx, m.tokens, m.targets, kSeqLen, &saved, {positions, lengths});
  EXPECT_EQ(loss.status().code(), absl::StatusCode::kInvalidArgument);
}

void ExpectGradientsAnnounced(const ModelConfig& config, const LogitsChunk& chunk) {
  TestModel m(config, DType::kF32, OpSet::kAuto, 2, chunk);
  std::vector<const Parameter*> ready;
  m.ctx.context().set_on_grad_ready([&](const Parameter& p) { ready.push_back(&p); });
  m.Run(true);
  std::vector<const Parameter*> expected;
  for (const ParameterRecord& record : m.arena.records()) expected.push_back(&record.parameter);
  EXPECT_EQ(ready, std::vector<const Parameter*>(expected.rbegin(), expected.rend()));
}

TEST_P(TransformerTest, EachGradientIsAnnouncedOnceAndLastToFirst) {
  for (const LogitsChunk& chunk : {LogitsChunk(), ChunksOf(4)}) {
    ExpectGradientsAnnounced(Config(), chunk);
  }
}

size_t PlannedBytes(const ModelConfig& config, const LogitsChunk& chunk, DType dtype = DType::kF32,
                    ActivationRecompute recompute = ActivationRecompute::kNone) {
  ParameterArena parameters;
  const Transformer model(config, kSeqLen, &parameters, TensorParallel(), chunk, recompute);
  parameters.AllocateDryRun(dtype);
  ActivationArena plan = ActivationArena::DryRun();
  ThreadTeam team(2);
  const Context ctx(&team, &plan);
  const Tensor tokens(nullptr, DType::kI32, {kTokens});
  TransformerSaved saved;
  CHECK(model.ForwardForTraining(ctx, tokens, tokens, kSeqLen, 1, &saved).ok());
  CHECK(model.Backward(ctx, &saved).ok());
  return plan.peak_bytes();
}

TEST_P(TransformerTest, DryRunPlansExactlyTheRealStep) {
  ModelConfig config = Config();
  config.vocab_size = 20000;  // so that logits are most of the memory
  const auto peak_bytes = [&](const LogitsChunk& chunk) {
    TestModel real(config, DType::kF32, OpSet::kAuto, 2, chunk);
    real.Run(true);
    const size_t bytes = real.ctx.context().arena().peak_bytes();
    EXPECT_EQ(bytes, PlannedBytes(config, chunk));
    return bytes;
  };
  const size_t whole = peak_bytes(LogitsChunk()), chunks = peak_bytes(ChunksOf(4));
  const size_t row_bytes = config.vocab_size * sizeof(float);
  EXPECT_LE(chunks, whole - (kTokens - 4) * row_bytes + 4 * kTensorAlignment);
}

// Arenas are poisoned: a tensor that a pass reads without recomputing it would be NaN.
void ExpectSameWithRecomputation(const ModelConfig& config) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    TestModel none(config, dtype);
    const std::complex<double> loss = none.Run(true);
    EXPECT_GT(MaxAbs(none.arena.grads()), 0);
    size_t bytes = none.ctx.context().arena().peak_bytes();
    for (const auto recompute : {ActivationRecompute::kSelective, ActivationRecompute::kFull}) {
      SCOPED_TRACE(::testing::Message()
                   << DTypeName(dtype) << ", recomputation " << static_cast<int>(recompute));
      TestModel m(config, dtype, OpSet::kAuto, 2, LogitsChunk(), recompute);
      EXPECT_EQ(m.Run(false), loss);
      EXPECT_EQ(m.Run(true), loss);
      EXPECT_TRUE(SameBits(m.arena.grads(), none.arena.grads()));
      const size_t more = std::exchange(bytes, m.ctx.context().arena().peak_bytes());
      EXPECT_LT(bytes, more);
      EXPECT_EQ(bytes, PlannedBytes(config, LogitsChunk(), dtype, recompute));
    }
  }
}

TEST_P(TransformerTest, RecomputationMovesNoBitInLessMemoryThatIsPlanned) {
  ModelConfig config = Config();
  config.num_layers = 6;
  ExpectSameWithRecomputation(config);
}

TEST_P(TransformerTest, TheSameBitsTwice) {
  TestModel first(Config(), DType::kF32), second(Config(), DType::kF32);
  EXPECT_EQ(first.Run(true), second.Run(true));
  EXPECT_TRUE(SameBits(first.arena.grads(), second.arena.grads()));
  EXPECT_GT(MaxAbs(first.arena.grads()), 0);
}

void ExpectDecodes(const ModelConfig& config) {
  TestModel m(config, DType::kF64);
  TransformerSaved saved;
  const auto logits = m.model.Logits(m.ctx, m.tokens.tensor().Rows(0, kSeqLen), kSeqLen, &saved);
  ASSERT_TRUE(logits.ok());
  // A prompt of two tokens at once, then one by one.
  auto cache = KvCache::Create(m.model, kSeqLen);
  ASSERT_TRUE(cache.ok()) << cache.status();
  for (int64_t begin = 0, end = 2; end <= kSeqLen; begin = end++) {
    const auto next = m.model.Decode(m.ctx, m.tokens.tensor().Rows(begin, end), &*cache);
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(cache->length(), end);
    EXPECT_LT(RelativeError(*next, logits->Rows(end - 1, end)), 1e-13);
  }
}

TEST_P(TransformerTest, DecodeFollowsTheWholeSequence) { ExpectDecodes(Config()); }

TEST_P(TransformerTest, LossOfAUniformModelIsLogVocab) {
  ModelConfig config = Config();
  config.initializer_range = 0;
  TestModel m(config, DType::kF64);
  EXPECT_NEAR(m.Run(false).real() / kTokens, std::log(7.0), 1e-14);
}

TEST_P(TransformerTest, TokenOutsideTheVocabularyIsAnError) {
  TestModel m(Config(), DType::kF32);
  m.tokens->data<int32_t>()[3] = 7;
  TransformerSaved saved;
  const auto loss = m.model.Forward(m.ctx, m.tokens, m.targets, kSeqLen, &saved);
  EXPECT_EQ(loss.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(TransformerTest, TargetOutsideTheVocabularyIsAnError) {
  TestModel m(Config(), DType::kF32, OpSet::kAuto, 2, ChunksOf(2));
  m.targets->data<int32_t>()[7] = 7;
  TransformerSaved saved;
  const auto loss = m.model.ForwardForTraining(m.ctx, m.tokens, m.targets, kSeqLen, 1, &saved);
  EXPECT_EQ(loss.status().code(), absl::StatusCode::kInvalidArgument);
}

// Draws biases and weights of norms, too, instead of 0 and 1.
void VaryConstants(ParameterArena* arena) {
  for (ParameterRecord& record : arena->records()) {
    if (record.init.stddev == 0) record.init.stddev = 0.2;
  }
  ThreadTeam team(1);
  CHECK(InitializeParameters(3, team, arena).ok());
}

std::vector<ModelConfig> TinyFeatureModels(int64_t num_layers) {
  ModelConfig base = TinyConfig(&kLlamaFamily, /*tied=*/true);
  base.num_layers = num_layers;
  return testing::FeatureModels(base);
}

// The ops of two layers in a row, four norms, q and k norms and scales included, as in
// F32FollowsF64.
const double kFeaturesBound = 40 * 4 * std::sqrt(12.0) * testing::UnitRoundoff(DType::kF32);

class TransformerFeaturesTest : public ::testing::TestWithParam<int> {
 protected:
  static ModelConfig Config(int64_t num_layers = 2) {
    return TinyFeatureModels(num_layers)[GetParam()];
  }
};

// Gradients against the complex step, kernels against the definition.
TEST_P(TransformerFeaturesTest, EveryGradientByComplexStep) {
  const ModelConfig config = Config();
  ASSERT_TRUE(ValidateModelConfig(config).ok());
  TestModel exact(config, DType::kC128, OpSet::kAuto, 1, ChunksOf(6)), f32(config, DType::kF32);
  VaryConstants(&exact.arena);
  VaryConstants(&f32.arena);
  const double loss = exact.Run(/*backward=*/true).real();
  EXPECT_NEAR(f32.Run(true).real(), loss, kFeaturesBound * loss);
  int64_t num_elements = 0;
  for (size_t i = 0; i < exact.arena.records().size(); ++i) {
    const ParameterRecord& record = exact.arena.records()[i];
    TestTensor expected(DType::kF64, record.shape());
    ComplexStepGradient(
        record.parameter.value, [&] { return exact.Run(false); }, expected);
    EXPECT_GT(MaxAbs(expected), 1e-4) << record.name();
    EXPECT_LT(RelativeError(record.parameter.grad, expected), 1e-12) << record.name();
    EXPECT_LT(RelativeError(f32.arena.records()[i].parameter.grad, expected), kFeaturesBound)
        << record.name();
    num_elements += record.num_elements();
  }
  EXPECT_EQ(num_elements, NumParameters(config));
}

TEST_P(TransformerFeaturesTest, DocumentsAreAsAlone) {
  ExpectDocumentsAreAsAlone(Config(), ActivationRecompute::kNone, {2, 3, 1, 4});
}

TEST_P(TransformerFeaturesTest, GradientsAreAnnouncedLastToFirst) {
  ExpectGradientsAnnounced(Config(), LogitsChunk());
}

TEST_P(TransformerFeaturesTest, RecomputationMovesNoBit) {
  ExpectSameWithRecomputation(Config(/*num_layers=*/6));
}

TEST_P(TransformerFeaturesTest, DecodeFollowsTheWholeSequence) { ExpectDecodes(Config()); }

INSTANTIATE_TEST_SUITE_P(Pairs, TransformerFeaturesTest,
                         ::testing::Range(0, int(TinyFeatureModels(2).size())));

TEST(TransformerDeathTest, AFeatureNeedsItsTensorsNames) {
  ModelConfig config = TinyConfig(&kGpt2Family, true);
  config.gated_mlp = true;
  ParameterArena arena;
  EXPECT_DEATH(Transformer(config, kSeqLen, &arena), "no name for a tensor of layer 0");
  config.family = nullptr;
  EXPECT_DEATH(Transformer(config, kSeqLen, &arena), "has no family");
}

TEST(TransformerDeathTest, BackwardNeedsAPassForTraining) {
  TestModel m(TinyConfig(&kGpt2Family, true), DType::kF32);
  TransformerSaved saved;
  ASSERT_TRUE(m.model.Forward(m.ctx, m.tokens, m.targets, kSeqLen, &saved).ok());
  EXPECT_DEATH((void)m.model.Backward(m.ctx, &saved), "without ForwardForTraining");
}

INSTANTIATE_TEST_SUITE_P(Families, TransformerTest,
                         ::testing::Combine(::testing::Values(&kGpt2Family, &kLlamaFamily),
                                            ::testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) == &kGpt2Family ? "Gpt2"
                                                                                      : "Llama") +
                                  (std::get<1>(info.param) ? "Tied" : "Untied");
                         });

}  // namespace
}  // namespace strake
