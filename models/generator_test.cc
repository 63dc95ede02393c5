#include "models/generator.h"

#include <cmath>
#include <map>
#include <vector>

#include "core/testing/test_context.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "models/initialize.h"

namespace strake {
namespace {

using testing::TestContext;

std::map<int64_t, double> Frequencies(const std::vector<float>& logits, SamplingOptions options) {
  const int n = 20000;
  std::map<int64_t, double> frequencies;
  for (int i = 0; i < n; ++i) frequencies[SampleToken(logits, options, i)] += 1.0 / n;
  return frequencies;
}

TEST(SampleTokenTest, GreedyTakesTheFirstLargest) {
  EXPECT_EQ(SampleToken({1.f, 3.f, 3.f, 2.f}, {.temperature = 0}, 0), 1);
}

TEST(SampleTokenTest, FollowsTheSoftmax) {
  // Probabilities 1/2, 1/4, 1/8, 1/8 at temperature 1.
  const std::vector<float> logits = {0, std::log(4.f), std::log(2.f), 0};
  const auto f = Frequencies(logits, {});
  // Five standard errors of a frequency in 20000 draws, at most sqrt(1/4 / 20000).
  const double five = 5 * 0.5 / std::sqrt(20000.0);
  EXPECT_NEAR(f.at(1), 0.5, five);
  EXPECT_NEAR(f.at(2), 0.25, five);
  EXPECT_NEAR(f.at(0), 0.125, five);
  EXPECT_NEAR(f.at(3), 0.125, five);
  // At temperature 1/2 the odds are squared: 16 : 4 : 1 : 1.
  EXPECT_NEAR(Frequencies(logits, {.temperature = 0.5}).at(1), 16.0 / 22, five);
}

TEST(SampleTokenTest, TopKAndTopPCutTheTail) {
  const std::vector<float> logits = {0, std::log(4.f), std::log(2.f), 0};
  EXPECT_EQ(Frequencies(logits, {.top_k = 2}).size(), 2u);
  EXPECT_EQ(Frequencies(logits, {.top_k = 100}).size(), 4u);
  EXPECT_EQ(Frequencies(logits, {.top_p = 0.4}).size(), 1u);
  EXPECT_EQ(Frequencies(logits, {.top_p = 0.7}).size(), 2u);
  EXPECT_EQ(Frequencies(logits, {.top_p = 1}).size(), 4u);
  EXPECT_EQ(Frequencies(logits, {.top_p = 0}).size(), 1u);
  // top_p applies to the tokens that top_k left: 2/3 and 1/3.
  EXPECT_EQ(Frequencies(logits, {.top_k = 2, .top_p = 0.6}).size(), 1u);
}

// More than are sorted at a time, of probability 1/1000 each.
TEST(SampleTokenTest, TopPOfManyTokens) {
  const std::vector<float> logits(1000, 0.f);
  const auto f = Frequencies(logits, {.top_p = 0.4995});
  EXPECT_EQ(f.size(), 500u);
  EXPECT_EQ(f.rbegin()->first, 499);  // the first of equal ones
  EXPECT_EQ(Frequencies(logits, {.top_k = 300, .top_p = 0.9999}).rbegin()->first, 299);
}

TEST(SampleTokenTest, SeedAndIndexDecide) {
  const std::vector<float> logits(1000, 0.f);
  EXPECT_EQ(SampleToken(logits, {.seed = 1}, 5), SampleToken(logits, {.seed = 1}, 5));
  EXPECT_NE(SampleToken(logits, {.seed = 1}, 5), SampleToken(logits, {.seed = 2}, 5));
  EXPECT_NE(SampleToken(logits, {.seed = 1}, 5), SampleToken(logits, {.seed = 1}, 6));
}

TEST(GenerateTokensTest, GreedyIsTheArgmaxOfTheWholeSequence) {
  const ModelConfig config = *ModelPreset("llama-tiny");
  ParameterArena parameters;
  const Transformer model(config, 16, &parameters);
  ASSERT_TRUE(parameters.Allocate(DType::kF32, false).ok());
  ThreadTeam team(2);
  ASSERT_TRUE(InitializeParameters(1, team, &parameters).ok());
  const TestContext ctx;
  std::vector<int32_t> tokens = {10, 20, 30};
  const std::vector<int32_t> prompt = tokens;

  const size_t bytes = GenerationBytes(ctx, model, prompt.size(), 8);
  auto arena = ActivationArena::Create(bytes);
  ASSERT_TRUE(arena.ok());
  const Context exact(&team, &*arena);
  ASSERT_TRUE(
      GenerateTokens(exact, model, prompt, 8, {.temperature = 0}, [&](int64_t token) {
        TransformerSaved saved;
        const int64_t n = tokens.size();
        const Tensor input(tokens.data(), DType::kI32, {n});
        const auto logits = model.Logits(ctx, input, n, &saved);
        EXPECT_TRUE(logits.ok());
        const float* last = logits->data<float>() + (n - 1) * config.vocab_size;
        EXPECT_EQ(token, SampleToken({last, size_t(config.vocab_size)}, {.temperature = 0}, 0));
        tokens.push_back(token);
        return absl::OkStatus();
      }).ok());
  EXPECT_EQ(tokens.size(), 11u);
  EXPECT_EQ(arena->peak_bytes(), bytes);
}

TEST(GenerateTokensTest, GoesOnPastTheLastPosition) {
  ModelConfig config = *ModelPreset("gpt2-tiny");
  config.max_positions = 6;
  ParameterArena parameters;
  const Transformer model(config, 6, &parameters);
  ASSERT_TRUE(parameters.Allocate(DType::kF32, false).ok());
  ThreadTeam team(1);
  ASSERT_TRUE(InitializeParameters(1, team, &parameters).ok());
  const TestContext ctx;
  std::vector<int32_t> tokens = {10, 20};
  ASSERT_TRUE(GenerateTokens(ctx, model, {10, 20}, 20, {}, [&](int64_t token) {
                tokens.push_back(static_cast<int32_t>(token));
                return absl::OkStatus();
              }).ok());
  ASSERT_EQ(tokens.size(), 22u);
  // The cache of 6 is full when token 6 is drawn. For token 7 it begins anew with tokens 4 to 6,
  // exactly half of it. So token 10 is drawn from tokens 4 to 9 alone.
  TransformerSaved saved;
  const Tensor input(tokens.data() + 4, DType::kI32, {6});
  const auto logits = model.Logits(ctx, input, 6, &saved);
  ASSERT_TRUE(logits.ok());
  EXPECT_EQ(tokens[10], SampleToken({logits->data<float>() + 5 * 256, 256}, {}, 10 - 2));
}

TEST(GenerateTokensTest, LogitsThatAreNotFiniteAreAnError) {
  const ModelConfig config = *ModelPreset("gpt2-tiny");
  ParameterArena parameters;
  const Transformer model(config, 8, &parameters);
  ASSERT_TRUE(parameters.Allocate(DType::kF32, false).ok());
  parameters.records().back().parameter.value.data<float>()[0] = NAN;
  const TestContext ctx;
  const absl::Status status =
      GenerateTokens(ctx, model, {1, 2}, 3, {}, [](int64_t) { return absl::OkStatus(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(status.message().find("the logits after 2 tokens are not finite"), 0u);
}

}  // namespace
}  // namespace strake
