#include "models/transformer.h"

#include <complex>
#include <string>
#include <vector>

#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
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

struct TestModel {
  TestModel(const ModelConfig& config, DType dtype, OpSet op_set = OpSet::kAuto, int threads = 2)
      : ctx(op_set, threads, size_t{1} << 24),
        tokens(DType::kI32, {kTokens}),
        targets(DType::kI32, {kTokens}),
        model(config, kSeqLen, &arena) {
    CHECK(arena.Allocate(dtype, true).ok());
    ThreadTeam team(1);
    CHECK(InitializeParameters(3, team, &arena).ok());
    FillTokens(tokens, 1, config.vocab_size);
    FillTokens(targets, 2, config.vocab_size);
  }

  // Sum of the losses, and the gradients of `scale` times it where asked for.
  std::complex<double> Run(bool backward, double scale = 1) {
    ActivationScope scope(ctx.context().arena());
    TransformerSaved saved;
    const auto loss = model.Forward(ctx, tokens, targets, kSeqLen, &saved);
    CHECK(loss.ok()) << loss.status();
    std::complex<double> sum = 0;
    for (int64_t i = 0; i < kTokens; ++i) sum += testing::GetElement(*loss, i);
    if (backward) CHECK(model.Backward(ctx, scale, &saved).ok());
    return sum;
  }

  TestContext ctx;
  TestTensor tokens, targets;
  ParameterArena arena;
  Transformer model;
};

class TransformerTest : public ::testing::TestWithParam<std::tuple<ModelFamily, bool>> {
 protected:
  ModelConfig Config() const {
    return TinyConfig(std::get<0>(GetParam()), std::get<1>(GetParam()));
  }
};

TEST_P(TransformerTest, EveryGradientByComplexStep) {
  TestModel m(Config(), DType::kC128);
  m.Run(/*backward=*/true);
  int64_t compared = 0;
  for (Parameter& parameter : m.arena.parameters()) {
    TestTensor expected(DType::kF64, parameter.shape);
    ComplexStepGradient(
        parameter.value, [&] { return m.Run(false); }, expected);
    EXPECT_GT(MaxAbs(expected), 1e-4) << parameter.name();
    EXPECT_LT(RelativeError(parameter.grad, expected), 1e-12) << parameter.name();
    compared += parameter.num_elements();
  }
  EXPECT_EQ(compared, NumParameters(Config()));
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
    for (size_t i = 0; i < f32.arena.parameters().size(); ++i) {
      const Parameter& parameter = f32.arena.parameters()[i];
      EXPECT_LT(RelativeError(parameter.grad, f64.arena.parameters()[i].grad), bound)
          << parameter.name();
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

TEST_P(TransformerTest, EachGradientIsAnnouncedOnceAndLastToFirst) {
  TestModel m(Config(), DType::kF32);
  std::vector<int64_t> offsets;
  m.ctx.context().set_on_grad_ready([&](const Parameter& p) { offsets.push_back(p.offset); });
  m.Run(true);
  std::vector<int64_t> expected;
  for (const Parameter& p : m.arena.parameters()) expected.push_back(p.offset);
  EXPECT_EQ(offsets, std::vector<int64_t>(expected.rbegin(), expected.rend()));
}

TEST_P(TransformerTest, DryRunPlansExactlyTheRealStep) {
  const ModelConfig config = Config();
  ParameterArena parameters;
  const Transformer model(config, kSeqLen, &parameters);
  parameters.AllocateDryRun(DType::kF32);
  ActivationArena plan = ActivationArena::DryRun();
  ThreadTeam team(2);
  const Context ctx(&team, &plan);
  const Tensor tokens(nullptr, DType::kI32, {kTokens});
  TransformerSaved saved;
  ASSERT_TRUE(model.Forward(ctx, tokens, tokens, kSeqLen, &saved).ok());
  ASSERT_TRUE(model.Backward(ctx, 1, &saved).ok());

  TestModel real(config, DType::kF32);
  real.Run(true);
  EXPECT_EQ(real.ctx.context().arena().peak_bytes(), plan.peak_bytes());
}

TEST_P(TransformerTest, TheSameBitsTwice) {
  TestModel first(Config(), DType::kF32), second(Config(), DType::kF32);
  EXPECT_EQ(first.Run(true), second.Run(true));
  EXPECT_TRUE(SameBits(first.arena.grads(), second.arena.grads()));
  EXPECT_GT(MaxAbs(first.arena.grads()), 0);
}

TEST_P(TransformerTest, DecodeFollowsTheWholeSequence) {
  TestModel m(Config(), DType::kF64);
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

INSTANTIATE_TEST_SUITE_P(
    Families, TransformerTest,
    ::testing::Combine(::testing::Values(ModelFamily::kGpt2, ModelFamily::kLlama),
                       ::testing::Bool()),
    [](const auto& info) {
      return std::string(std::get<0>(info.param) == ModelFamily::kGpt2 ? "Gpt2" : "Llama") +
             (std::get<1>(info.param) ? "Tied" : "Untied");
    });

}  // namespace
}  // namespace strake
