// The config.json of each family: what it reads and what it writes.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/config_seeds.h"
#include "models/families/families.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::ElementsAre;
using testing::ErrorOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Patched;
using testing::Seed;

ModelConfig Read(const std::string& text, std::vector<std::string>* notices = nullptr) {
  const auto config = ParseHfConfig(text, "c", notices);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(ModelConfig());
}

std::vector<int64_t> Windows(const ModelConfig& config) {
  std::vector<int64_t> windows;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    windows.push_back(config.AttentionOf(layer).window);
  }
  return windows;
}

TEST(FamilyConfigsTest, EverySeedIsReadWholeAndSurvivesTheRoundTrip) {
  int num_seeds = 0;
  for (const auto& file : std::filesystem::directory_iterator(testing::kConfigSeeds)) {
    const std::string name = file.path().stem();
    SCOPED_TRACE(name);
    if (name.rfind("unsupported", 0) == 0) {
      EXPECT_NE(ErrorOf(Seed(name)), "");
      continue;
    }
    std::vector<std::string> notices;
    const ModelConfig config = Read(Seed(name), &notices);
    for (const std::string& notice : notices) EXPECT_THAT(notice, Not(HasSubstr("nothing reads")));
    notices.clear();
    EXPECT_EQ(Read(ToHfConfig(config), &notices), config);
    EXPECT_THAT(notices, IsEmpty());
    ++num_seeds;
  }
  EXPECT_GE(num_seeds, 28);
}

TEST(FamilyConfigsTest, KeysThatNothingReadsAreListedOnce) {
  std::vector<std::string> notices;
  Read(Patched("llama_yarn", R"({"attn_logit_softcapping": 30, "unknown": {"a": 1},
                                 "rope_scaling": {"finetuned": true}, "use_cache": true})"),
       &notices);
  EXPECT_THAT(notices, ElementsAre("c: nothing reads the keys \"attn_logit_softcapping\", "
                                   "\"rope_scaling.finetuned\", \"unknown\""));
}

TEST(FamilyConfigsTest, MistralHasAWindowUnlessItIsNull) {
  EXPECT_EQ(Read(Seed("mistral")).AttentionOf(3).window, 8);
  EXPECT_EQ(Read(Seed("mistral")).head_dim, 6);
  EXPECT_EQ(Read(Seed("mistral_whole")).AttentionOf(0).window, 0);
  EXPECT_EQ(Read(Patched("mistral", R"({"sliding_window": null})")).AttentionOf(0).window, 4096);
  EXPECT_EQ(Read(Seed("mistral_whole")).num_kv_heads, 8);
}

TEST(FamilyConfigsTest, QwensWindowsAreOnLaterLayersWhereTheyAreUsed) {
  const ModelConfig config = Read(Seed("qwen2"));
  EXPECT_TRUE(config.qkv_bias && !config.attention_output_bias && !config.mlp_bias);
  EXPECT_THAT(Windows(config), ElementsAre(0, 0, 8, 8));
  EXPECT_THAT(Windows(Read(Seed("qwen2_layer_types"))), ElementsAre(8, 0, 0, 8));
  EXPECT_THAT(Windows(Read(Patched("qwen2", R"({"use_sliding_window": false})"))),
              ElementsAre(0, 0, 0, 0));
  const ModelConfig qwen3 = Read(Seed("qwen3"));
  EXPECT_EQ(qwen3.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(Read(Patched("qwen3", R"({"head_dim": null})")).head_dim, 128);
}

TEST(FamilyConfigsTest, SmolLm3HasLayersWithoutRope) {
  const ModelConfig config = Read(Seed("smollm3"));
  EXPECT_THAT(Windows(config), ElementsAre(0, 8, 0, 8));
  for (int64_t layer = 0; layer < 4; ++layer) {
    EXPECT_EQ(config.AttentionOf(layer).rope.has_value(), layer % 2 == 0);
  }
  EXPECT_EQ(config.AttentionOf(0).rope->theta, 2000000);
  EXPECT_EQ(Read(Seed("smollm3_layer_types")).attention_kinds.size(), 4u);
  const ModelConfig interval =
      Read(Patched("smollm3", R"({"no_rope_layers": null, "no_rope_layer_interval": null})"));
  EXPECT_TRUE(interval.AttentionOf(2).rope.has_value());
  EXPECT_FALSE(interval.AttentionOf(3).rope.has_value());
}

TEST(FamilyConfigsTest, OlmoHasNormsAfterAndRopeByTypeOfLayer) {
  EXPECT_EQ(Read(Seed("olmo2")).norm_place, NormPlace::kAfter);
  EXPECT_EQ(Read(Seed("olmo2")).qk_norm, QkNorm::kWhole);
  const ModelConfig config = Read(Seed("olmo3"));
  EXPECT_THAT(Windows(config), ElementsAre(4, 4, 4, 0));
  EXPECT_EQ(config.AttentionOf(0).rope, RopeConfig{.theta = 500000});
  const RopeConfig full = *config.AttentionOf(3).rope;
  EXPECT_EQ(std::get<RopeYarnScaling>(full.scaling).attention_factor, 1.2);
  EXPECT_THAT(ToHfConfig(config), HasSubstr("\"rope_scaling\""));
  const ModelConfig nested = Read(Seed("olmo3_nested"));
  EXPECT_EQ(nested.AttentionOf(0).rope->theta, 100);
  EXPECT_EQ(nested.AttentionOf(1).rope->theta, 1000);
  EXPECT_THAT(ToHfConfig(nested), HasSubstr("\"sliding_attention\": {"));
}

TEST(FamilyConfigsTest, GemmaHasCapsScalesAndTwoThetas) {
  const ModelConfig config = Read(Seed("gemma2"));
  EXPECT_EQ(config.embedding_scale, 4);
  EXPECT_EQ(config.score_scale, 1 / std::sqrt(12.0));
  EXPECT_EQ(config.score_softcap, 5);
  EXPECT_EQ(config.logits_softcap, 0);
  EXPECT_THAT(Windows(config), ElementsAre(4, 0, 4, 0));
  EXPECT_TRUE(config.norm_weight_plus_one);
  EXPECT_EQ(Read(Patched("gemma2", R"({"attn_logit_softcapping": null,
                                       "final_logit_softcapping": null})"))
                .logits_softcap,
            30);
  const ModelConfig gemma3 = Read(Seed("gemma3_text"));
  EXPECT_THAT(Windows(gemma3), ElementsAre(4, 0, 4, 0));
  EXPECT_EQ(gemma3.AttentionOf(0).rope, RopeConfig{.theta = 100});
  EXPECT_EQ(gemma3.AttentionOf(1).rope,
            (RopeConfig{.theta = 1000, .scaling = RopeLinearScaling{8}}));
  EXPECT_EQ(gemma3.score_softcap, 0);
  EXPECT_EQ(gemma3.logits_softcap, 3);
}

TEST(FamilyConfigsTest, PartsOfHeadsAreRotated) {
  const RopeConfig phi3 = *Read(Seed("phi3")).AttentionOf(0).rope;
  EXPECT_EQ(phi3.rotary_dim, 4);
  EXPECT_THAT(std::get<RopeLongScaling>(phi3.scaling).long_factors, ElementsAre(2, 3));
  const ModelConfig neox = Read(Seed("gpt_neox"));
  EXPECT_EQ(neox.AttentionOf(0).rope, (RopeConfig{.theta = 1000, .rotary_dim = 4}));
  EXPECT_FALSE(neox.parallel_residual);
  EXPECT_EQ(Read(Seed("gpt_neox_newer")).AttentionOf(0).rope->rotary_dim, 2);
  EXPECT_EQ(Read(Seed("stablelm")).AttentionOf(0).rope->rotary_dim, 2);
  EXPECT_EQ(Read(Patched("gpt_neox", R"({"rotary_pct": 1})")).AttentionOf(0).rope->rotary_dim, 0);
}

TEST(FamilyConfigsTest, EveryShareOfAHeadSurvivesTheRoundTrip) {
  nlohmann::json json = nlohmann::json::parse(Seed("stablelm"));
  for (int head_dim = 2; head_dim <= 130; head_dim += 2) {
    json["hidden_size"] = 4 * head_dim;
    for (int rotated = 2; rotated <= head_dim; rotated += 2) {
      json["partial_rotary_factor"] = (rotated + 0.5) / (head_dim + 0.5);
      const ModelConfig config = Read(json.dump());
      EXPECT_EQ(Read(ToHfConfig(config)), config);
    }
  }
}

TEST(FamilyConfigsTest, GraniteHasFourScalesWhoseDivisorSurvives) {
  const ModelConfig config = Read(Seed("granite"));
  EXPECT_EQ(config.embedding_scale, 12);
  EXPECT_EQ(config.residual_scale, 0.22);
  EXPECT_EQ(config.score_scale, 0.3);
  EXPECT_EQ(config.logits_scale, 1 / 7.0);
  nlohmann::json json = nlohmann::json::parse(Seed("granite"));
  for (int i = 1; i < 3000; ++i) {
    json["logits_scaling"] = 1 + i / 997.0;
    const ModelConfig other = Read(json.dump());
    EXPECT_EQ(Read(ToHfConfig(other)), other);
  }
}

TEST(FamilyConfigsTest, Gpt2sRelatives) {
  EXPECT_EQ(Read(Seed("gpt_bigcode")).num_kv_heads, 1);
  EXPECT_EQ(Read(Seed("gpt_bigcode_heads")).num_kv_heads, 4);
  EXPECT_EQ(Read(Seed("gpt_bigcode_heads")).activation, ActivationKind::kRelu);
  const ModelConfig config = Read(Seed("gpt2_options"));
  EXPECT_EQ(config.intermediate_size, 40);
  EXPECT_EQ(config.activation, ActivationKind::kSilu);
  EXPECT_TRUE(config.score_scale_by_layer);
}

// transformers computes them in Python's floats.
TEST(FamilyConfigsTest, AttentionFactorsAreDerived) {
  const auto yarn = [](const std::string& patch) {
    const ModelConfig config = Read(Patched("llama_yarn", patch));
    return std::get<RopeYarnScaling>(config.AttentionOf(0).rope->scaling);
  };
  EXPECT_EQ(yarn("{}").attention_factor,
            (0.1 * std::log(4.0) + 1) / (0.1 * 0.5 * std::log(4.0) + 1));
  EXPECT_FALSE(yarn("{}").whole_range);
  EXPECT_EQ(yarn(R"({"rope_scaling": {"mscale": null}})").attention_factor,
            0.1 * std::log(4.0) + 1);
  EXPECT_EQ(yarn(R"({"rope_scaling": {"factor": null, "mscale": null}})").factor, 4);
  EXPECT_EQ(yarn(R"({"rope_scaling": {"factor": 0.5, "mscale": null}})").attention_factor, 1);
  const auto longrope = [](const std::string& patch) {
    const ModelConfig config = Read(Patched("phi3", patch));
    return std::get<RopeLongScaling>(config.AttentionOf(0).rope->scaling);
  };
  EXPECT_EQ(longrope("{}").attention_factor, std::sqrt(1 + std::log(4.0) / std::log(16.0)));
  EXPECT_EQ(longrope(R"({"max_position_embeddings": 16})").attention_factor, 1);
  EXPECT_EQ(longrope(R"({"rope_scaling": {"attention_factor": 1.5}})").attention_factor, 1.5);
  EXPECT_THAT(ToHfConfig(Read(Seed("phi3"))), Not(HasSubstr("attention_factor")));
}

TEST(FamilyConfigsTest, DynamicScalingLimitsSequences) {
  const ModelConfig config = Read(Seed("llama_dynamic"));
  EXPECT_TRUE(CheckSeqLen(config, 64).ok());
  EXPECT_THAT(std::string(CheckSeqLen(config, 65).message()), HasSubstr("64 positions"));
}

}  // namespace
}  // namespace strake
