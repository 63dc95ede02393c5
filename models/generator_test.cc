#include "models/generator.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
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

TEST(SampleTokenTest, MinPCutsByTheLikeliest) {
  // Probabilities 1/2, 1/4, 1/8, 1/8: shares 1, 1/2, 1/4, 1/4 of the likeliest one's.
  const std::vector<float> logits = {0, std::log(4.f), std::log(2.f), 0};
  EXPECT_EQ(Frequencies(logits, {.min_p = 0.2}).size(), 4u);
  EXPECT_EQ(Frequencies(logits, {.min_p = 0.3}).size(), 2u);
  EXPECT_EQ(Frequencies(logits, {.min_p = 1}).size(), 1u);
  // It applies to the logits divided by the temperature: shares 1, 1/4, 1/16, 1/16.
  EXPECT_EQ(Frequencies(logits, {.temperature = 0.5, .min_p = 0.3}).size(), 1u);
  // top_p comes first, of all tokens: with 0.7 it leaves two of them, and min_p does not change
  // what their probabilities add up to.
  EXPECT_EQ(Frequencies(logits, {.top_p = 0.7, .min_p = 0.3}).size(), 2u);
  EXPECT_EQ(Frequencies(logits, {.top_p = 0.6, .min_p = 0.3}).size(), 2u);
  const auto f = Frequencies(logits, {.min_p = 0.3});
  EXPECT_NEAR(f.at(1), 2.0 / 3, 5 * 0.5 / std::sqrt(20000.0));
}

TEST(PenalizeRepetitionTest, MakesTokensLessLikelyWhateverTheirSign) {
  std::vector<float> logits = {3, -3, 0, 2, 5};
  PenalizeRepetition({0, 1, 2, 3}, 2, absl::MakeSpan(logits));
  EXPECT_EQ(logits, (std::vector<float>{1.5, -6, 0, 1, 5}));
  PenalizeRepetition({4}, 0.5, absl::MakeSpan(logits));
  EXPECT_EQ(logits[4], 10);
}

// Of transformers' generate(): models/testdata/make_sampling_goldens.py prints them.
struct SamplingGolden {
  std::vector<int32_t> seen;
  double repetition_penalty, temperature;
  int64_t top_k;
  double top_p, min_p;
  std::vector<double> probabilities;
};
const SamplingGolden kSamplingGoldens[] = {
    {{0, 2, 5},
     1.5,
     1.0,
     0,
     1.0,
     0.0,
     {0.2482, 0.2932, 0.0309, 0.1778, 0.084, 0.0033, 0.1385, 0.0241}},
    {{0, 0, 0, 2}, 1.5, 0.7, 0, 0.8, 0.0, {0.3008, 0.3817, 0, 0.1868, 0, 0, 0.1307, 0}},
    {{1}, 1.2, 0.7, 5, 0.9, 0.0, {0.5715, 0.1957, 0, 0.137, 0, 0, 0.0958, 0}},
    {{3}, 1.3, 1.5, 6, 0.85, 0.3, {0.3445, 0.2468, 0, 0.1517, 0.1073, 0, 0.1497, 0}},
    {{0}, 2.0, 2.0, 0, 0.9, 0.55, {0.24, 0.3082, 0, 0.24, 0, 0, 0.2118, 0}},
};

TEST(SamplingGoldensTest, TokensAreThoseOfTransformers) {
  for (const SamplingGolden& golden : kSamplingGoldens) {
    std::vector<float> logits = {2.0, 1.5, -0.5, 1.0, 0.25, -2.0, 0.75, -1.0};
    const std::set<int32_t> seen(golden.seen.begin(), golden.seen.end());
    PenalizeRepetition(std::vector<int32_t>(seen.begin(), seen.end()), golden.repetition_penalty,
                       absl::MakeSpan(logits));
    std::map<int64_t, double> f = Frequencies(logits, {.temperature = golden.temperature,
                                                       .top_k = golden.top_k,
                                                       .top_p = golden.top_p,
                                                       .min_p = golden.min_p});
    for (int64_t token = 0; token < 8; ++token) {
      const double p = golden.probabilities[token];
      // Five standard errors, and the last digit of the golden.
      EXPECT_NEAR(f[token], p, 5 * std::sqrt(p * (1 - p) / 20000) + 0.0001) << token;
      EXPECT_EQ(f[token] == 0, p == 0) << token;
    }
  }
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

// A model of a family with memory, and drawn weights.
struct GeneratorModel {
  GeneratorModel(const ModelConfig& config, int64_t max_tokens, DType dtype = DType::kF32)
      : model(config, max_tokens, &parameters), team(2) {
    for (ParameterRecord& record : parameters.records()) {
      // Larger than a trained model's, so that its tokens depend on those before.
      if (record.init.stddev > 0) record.init.stddev = 0.3;
    }
    CHECK(parameters.Allocate(dtype, false).ok());
    CHECK(InitializeParameters(1, team, &parameters).ok());
  }

  // The continuations of prompts, in memory that is just enough.
  std::vector<std::vector<int32_t>> Generate(const std::vector<std::vector<int32_t>>& prompts,
                                             const GenerationOptions& options) {
    const TestContext ctx;
    std::vector<int64_t> lengths;
    for (const auto& prompt : prompts) lengths.push_back(prompt.size());
    const size_t bytes = GenerationBytes(ctx, model, lengths, options);
    auto arena = ActivationArena::Create(bytes);
    CHECK(arena.ok()) << arena.status();
    const Context exact(&team, &*arena);
    std::vector<std::vector<int32_t>> texts(prompts.size());
    std::vector<bool> ended(prompts.size());
    const absl::Status status =
        GenerateAll(exact, model, prompts, options, [&](const GeneratedToken& token) {
          EXPECT_FALSE(ended[token.prompt]);
          texts[token.prompt].push_back(token.token);
          ended[token.prompt] = token.is_last;
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_TRUE(ended[i]) << i;
    return texts;
  }

  ParameterArena parameters;
  const Transformer model;
  ThreadTeam team;
};

int64_t NumDistinct(const std::vector<int32_t>& tokens) {
  return std::set<int32_t>(tokens.begin(), tokens.end()).size();
}

const std::vector<std::vector<int32_t>> kPrompts = {
    {10, 20, 30}, {5},        {10, 20, 30}, {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7},
    {200, 3},     {0},        {1, 2, 3, 4}, {250},
    {9, 8},       {100, 101}, {30, 20, 10}};

// Prompts of several lengths, more of them than are generated at a time; windows that are full at
// different times.
TEST(GenerateAllTest, EachPromptHasTheTokensThatItHasAlone) {
  for (const char* preset : {"llama-tiny", "gpt2-tiny"}) {
    ModelConfig config = *ModelPreset(preset);
    config.max_positions = 16;
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      GeneratorModel m(config, 16, dtype);
      for (const double temperature : {0.0, 1.0}) {
        GenerationOptions options = {.max_tokens = 12, .sampling = {.temperature = temperature}};
        options.sampling.repetition_penalty = 1.1;
        const auto together = m.Generate(kPrompts, options);
        for (size_t i = 0; i < kPrompts.size(); ++i) {
          EXPECT_EQ(together[i].size(), 12u);
          EXPECT_EQ(together[i], m.Generate({kPrompts[i]}, options)[0])
              << preset << " " << DTypeName(dtype) << ", prompt " << i;
          ++options.sampling.seed;
        }
        EXPECT_GT(NumDistinct(together[0]), 3) << "the model repeats itself";
        EXPECT_EQ(together[0] == together[2], temperature == 0) << "the seeds differ";
      }
    }
  }
}

// Up to 8 rows, bf16 has a kernel that needs memory of its own; above 8, the texts' bits may
// differ.
TEST(GenerateAllTest, ThePlannedMemoryServesFewerTokensAndTexts) {
  GeneratorModel m(*ModelPreset("llama-tiny"), 32, DType::kBf16);
  for (const int size : {9, 10}) {
    const std::vector<int32_t> longer(size, 7), shorter(8, 7);
    m.Generate({longer, shorter}, {.max_tokens = 1});
  }
  GenerationOptions options = {.max_tokens = 20, .sampling = {.temperature = 0}, .batch = 11};
  const auto whole = m.Generate(kPrompts, options);
  options.end_tokens = {whole[0][1], whole[1][2], whole[3][3]};
  m.Generate(kPrompts, options);
}

TEST(GenerateAllTest, EndTokensEndATextAndMakeRoom) {
  GeneratorModel m(*ModelPreset("llama-tiny"), 32);
  GenerationOptions options = {.max_tokens = 20, .sampling = {.temperature = 0}, .batch = 2};
  const auto whole = m.Generate(kPrompts, options);
  options.end_tokens = {whole[0][4], whole[3][7]};
  const auto cut = m.Generate(kPrompts, options);
  bool some_is_whole = false;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto end = std::find_first_of(whole[i].begin(), whole[i].end(),
                                        options.end_tokens.begin(), options.end_tokens.end());
    const auto after = end == whole[i].end() ? end : end + 1;
    EXPECT_EQ(cut[i], std::vector<int32_t>(whole[i].begin(), after)) << i;
    some_is_whole |= after == whole[i].end();
  }
  EXPECT_LE(cut[0].size(), 5u);
  EXPECT_TRUE(some_is_whole);
}

TEST(GenerateAllTest, APenaltyKeepsTokensFromComingTwice) {
  GeneratorModel m(*ModelPreset("llama-tiny"), 64);
  GenerationOptions options = {.max_tokens = 60, .sampling = {.temperature = 0}};
  const std::vector<int32_t> prompt = {10, 20, 30};
  EXPECT_LT(NumDistinct(m.Generate({prompt}, options)[0]), 60);
  options.sampling.repetition_penalty = 1e6;
  std::vector<int32_t> text = m.Generate({prompt}, options)[0];
  text.insert(text.end(), prompt.begin(), prompt.end());
  EXPECT_EQ(NumDistinct(text), 63);
}

// The angles are those of the sequence's length so far, for the tokens before it, too.
TEST(GenerateAllTest, RopeFollowsTheLength) {
  ModelConfig config = *ModelPreset("llama-tiny");
  config.num_layers = 2;
  const int64_t pairs = config.head_dim / 2, original = 8;
  for (AttentionKind& kind : config.attention_kinds) {
    kind.rope->scaling = RopeLongScaling{.short_factors = std::vector<double>(pairs, 1),
                                         .long_factors = std::vector<double>(pairs, 3),
                                         .original_positions = original};
  }
  GeneratorModel longer(config, 16), shorter(config, original);
  const std::vector<std::vector<int32_t>> prompts = {{10, 20, 30}, {5, 6, 7, 8, 9, 10, 11, 12, 13}};
  const GenerationOptions options = {.max_tokens = 7, .sampling = {.temperature = 0}};
  const auto texts = longer.Generate(prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t> tokens = prompts[i];
    for (const int32_t token : texts[i]) {
      // The whole sequence at once, in a model whose table is made for its length.
      const int64_t n = tokens.size();
      const TestContext ctx;
      TransformerSaved saved;
      const auto logits =
          (n <= original ? shorter : longer)
              .model.Logits(ctx, Tensor(tokens.data(), DType::kI32, {n}), n, &saved);
      ASSERT_TRUE(logits.ok()) << logits.status();
      const float* last = logits->data<float>() + (n - 1) * config.vocab_size;
      EXPECT_EQ(token, SampleToken({last, size_t(config.vocab_size)}, {.temperature = 0}, 0))
          << "after " << n << " tokens";
      tokens.push_back(token);
    }
  }
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
