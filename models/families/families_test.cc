#include "models/families/families.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/memory/parameter_arena.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_slice.h"
#include "models/families/family.h"
#include "models/families/hf_keys.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kGpt2[] = R"({"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024,
    "n_embd": 768, "n_layer": 12, "n_head": 12, "resid_pdrop": 0, "embd_pdrop": 0.0,
    "attn_pdrop": 0.0})";
constexpr char kLlama[] = R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8})";

// `base` with the keys of `patch` set; null removes a key.
std::string Patched(const char* base, const char* patch) {
  nlohmann::json json = nlohmann::json::parse(base);
  json.merge_patch(nlohmann::json::parse(patch));
  return json.dump();
}

std::string ErrorOf(const std::string& text) {
  const auto config = ParseHfConfig(text, "my/config.json", nullptr);
  return config.ok() ? "" : std::string(config.status().message());
}

TEST(FamiliesTest, Gpt2TakesDefaults) {
  std::vector<std::string> notices;
  const auto config = ParseHfConfig(kGpt2, "c", &notices);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*config, *ModelPreset("gpt2-124m"));
  EXPECT_THAT(notices, IsEmpty());
}

TEST(FamiliesTest, DropoutIsReported) {
  std::vector<std::string> notices;
  ASSERT_TRUE(ParseHfConfig(Patched(kGpt2, R"({"attn_pdrop": null})"), "c", &notices).ok());
  EXPECT_THAT(notices, ElementsAre("c: dropout is not applied (attn_pdrop=0.1)"));
}

TEST(FamiliesTest, CodeOfItsOwnIsReported) {
  std::vector<std::string> notices;
  ASSERT_TRUE(ParseHfConfig(Patched(kLlama, R"({"auto_map": {}})"), "c", &notices).ok());
  EXPECT_THAT(notices, ElementsAre("c: \"auto_map\" is ignored: the model is the family's, not "
                                   "that of its own code"));
}

TEST(FamiliesTest, LlamaWithBiasesSurvivesTheRoundTrip) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    const auto config =
        ParseHfConfig(Patched(kLlama, absl::StrCat("{\"", key, "\": true}").c_str()), "c", nullptr);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_NE(config->qkv_bias, config->mlp_bias);
    EXPECT_EQ(*ParseHfConfig(ToHfConfig(*config), "c", nullptr), *config) << key;
  }
}

TEST(FamiliesTest, LlamaTakesDefaults) {
  const auto config = ParseHfConfig(kLlama, "c", nullptr);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_kv_heads, 8);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->max_positions, 2048);
  EXPECT_EQ(config->norm_eps, 1e-6);
  EXPECT_EQ(config->attention_kinds[0].rope->theta, 10000);
  EXPECT_FALSE(
      std::holds_alternative<RopeWavelengthScaling>(config->attention_kinds[0].rope->scaling));
  EXPECT_FALSE(config->tie_word_embeddings);
}

TEST(FamiliesTest, BothSpellingsOfRope) {
  const std::string inner = R"("factor": 32, "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 8192)";
  const auto older = ParseHfConfig(
      Patched(kLlama,
              absl::StrCat(R"({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", )", inner,
                           "}}")
                  .c_str()),
      "c", nullptr);
  const auto newer =
      ParseHfConfig(Patched(kLlama, absl::StrCat(R"({"rope_parameters": {"rope_theta": 500000.0,
                                   "rope_type": "llama3", )",
                                                 inner, "}}")
                                        .c_str()),
                    "c", nullptr);
  ASSERT_TRUE(older.ok()) << older.status();
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_EQ(*older, *newer);
  EXPECT_EQ(older->attention_kinds, ModelPreset("llama-3.2-1b")->attention_kinds);
}

TEST(FamiliesTest, EveryPresetSurvivesTheRoundTrip) {
  for (const std::string& name : ModelPresetNames()) {
    const ModelConfig preset = *ModelPreset(name);
    EXPECT_TRUE(ValidateModelConfig(preset).ok()) << name;
    std::vector<std::string> notices;
    const auto again = ParseHfConfig(ToHfConfig(preset), name, &notices);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, preset) << name;
    EXPECT_THAT(notices, IsEmpty()) << name;
  }
}

TEST(FamiliesTest, TokenIdsAreKept) {
  const auto config = ParseHfConfig(
      Patched(kLlama, R"({"eos_token_id": [1, 2], "bos_token_id": 3})"), "c", nullptr);
  ASSERT_TRUE(config.ok());
  const auto json = nlohmann::json::parse(ToHfConfig(*config));
  EXPECT_EQ(json["eos_token_id"], nlohmann::json({1, 2}));
  EXPECT_EQ(json["bos_token_id"], 3);
}

TEST(FamiliesTest, SizesOfThePublishedModels) {
  EXPECT_EQ(NumParameters(*ModelPreset("gpt2-124m")), 124439808);
  EXPECT_EQ(NumParameters(*ModelPreset("gpt2-1558m")), 1557611200);
  EXPECT_EQ(NumParameters(*ModelPreset("llama-3-8b")), 8030261248);
  EXPECT_EQ(NumParameters(*ModelPreset("llama-3.2-1b")), 1235814400);
  EXPECT_EQ(NumParameters(*ModelPreset("gemma-2-2b")), 2614341888);
  EXPECT_EQ(NumParameters(*ModelPreset("gemma-3-1b")), 999885952);
  EXPECT_EQ(NumParameters(*ModelPreset("gemma-3-270m")), 268098176);
  EXPECT_EQ(NumParameters(*ModelPreset("mistral-7b")), 7241732096);
  EXPECT_EQ(NumParameters(*ModelPreset("olmo-2-1b")), 1484916736);
  EXPECT_EQ(NumParameters(*ModelPreset("phi-3-mini")), 3821079552);
  EXPECT_EQ(NumParameters(*ModelPreset("pythia-70m")), 70426624);
  EXPECT_EQ(NumParameters(*ModelPreset("pythia-160m")), 162322944);
  EXPECT_EQ(NumParameters(*ModelPreset("qwen2.5-0.5b")), 494032768);
  EXPECT_EQ(NumParameters(*ModelPreset("qwen3-0.6b")), 596049920);
  EXPECT_EQ(NumParameters(*ModelPreset("smollm2-135m")), 134515008);
  EXPECT_EQ(NumParameters(*ModelPreset("smollm2-360m")), 361821120);
  EXPECT_EQ(NumParameters(*ModelPreset("smollm3-3b")), 3075098624);
  EXPECT_EQ(NumParameters(*ModelPreset("stablelm-2-1.6b")), 1644515328);
}

TEST(FamiliesTest, CountsWhatTheModelRegisters) {
  for (const std::string& name : ModelPresetNames()) {
    const ModelConfig config = *ModelPreset(name);
    ParameterArena arena;
    const Transformer model(config, 8, &arena);
    EXPECT_EQ(arena.num_parameters(), NumParameters(config)) << name;
  }
}

TEST(FamiliesTest, FlopsPerToken) {
  const ModelConfig c = *ModelPreset("gpt2-124m");
  EXPECT_EQ(TrainingFlopsPerToken(c, 64), 6.0 * (124439808 - 1024 * 768) + 6.0 * 12 * 768 * 64);
  ModelConfig frozen = c;
  frozen.lora = {.rank = 8, .alpha = 8};
  EXPECT_EQ(TrainingFlopsPerToken(frozen, 64),
            4.0 * (124439808 - 1024 * 768) + 6.0 * 12 * 768 * 64);
}

struct BadConfig {
  const char* base;
  const char* patch;
  const char* message;
};

TEST(FamiliesTest, BadValuesAreNamed) {
  for (const BadConfig& bad : std::vector<BadConfig>{
           {kGpt2, R"({"n_embd": null})", "my/config.json: \"n_embd\" is missing"},
           {kLlama, R"({"intermediate_size": null})", "\"intermediate_size\" is missing"},
           {kGpt2, R"({"n_layer": -1})", "\"n_layer\" is -1"},
           {kGpt2, R"({"n_layer": 0})", "\"n_layer\" is 0"},
           {kGpt2, R"({"n_layer": 1.5})", "\"n_layer\" is 1.5"},
           {kGpt2, R"({"n_layer": "12"})", "\"n_layer\" is \"12\""},
           {kGpt2, R"({"n_layer": 1000000000000000000})", "\"n_layer\" is 1000000000000000000"},
           {kGpt2, R"({"n_layer": 18446744073709551615})", "\"n_layer\" is 18446744073709551615"},
           {kGpt2, R"({"n_layer": 2000000000, "n_embd": 1200000})", "at most 2^50"},
           {kGpt2, R"({"n_layer": 100000000})", "number of layers 100000000 is above 16384"},
           {kLlama, R"({"num_attention_heads": 2147483647, "head_dim": 2147483646,
                        "num_key_value_heads": 2147483647})",
            "at most 2^50"},
           {kGpt2, R"({"n_head": 7})",
            "hidden size 768 is not a multiple of the number of heads 7"},
           {kGpt2, R"({"hidden_size": 512})",
            "\"n_embd\" is 768 but \"hidden_size\" is 512; they are two names of one size"},
           {kGpt2, R"({"n_layer": null, "num_hidden_layers": 0})", "\"num_hidden_layers\" is 0"},
           {kGpt2, R"({"activation_function": "relu2"})", "\"activation_function\" is \"relu2\""},
           {kGpt2, R"({"scale_attn_weights": false})", "\"scale_attn_weights\": false is not"},
           {kGpt2, R"({"add_cross_attention": true})", "true is not supported"},
           {kGpt2, R"({"layer_norm_epsilon": "x"})", "\"layer_norm_epsilon\" is \"x\""},
           {kGpt2, R"({"tie_word_embeddings": 1})", "\"tie_word_embeddings\" is 1"},
           {kGpt2, R"({"model_type": "bert"})", "\"model_type\" is \"bert\""},
           {kGpt2, R"({"model_type": null})", "\"model_type\" is missing"},
           {kGpt2, R"({"architectures": ["GPT2ForSequenceClassification"]})", "\"architectures\""},
           {kLlama, R"({"attention_bias": 1})", "\"attention_bias\" is 1; it must be true or"},
           {kLlama, R"({"is_causal": false})", "\"is_causal\": false is not supported"},
           {kLlama, R"({"configuration_files": ["config.4.json"]})",
            "\"configuration_files\" is [\"config.4.json\"]; only the file itself is read"},
           {kLlama, R"({"transformers_weights": "x"})", "\"transformers_weights\" is \"x\"; only"},
           {kLlama, R"({"per_layer_config": {"0": {"head_dim": 4}}})",
            "\"per_layer_config\" is {\"0\":{\"head_dim\":4}}; all layers must"},
           {kLlama, R"({"partial_rotary_factor": 0.5})",
            "\"partial_rotary_factor\" is 0.5; only 1 is supported"},
           {kLlama, R"({"rope_scaling": {"partial_rotary_factor": 0.5}})",
            "\"rope_scaling\": \"partial_rotary_factor\" is 0.5; only 1 is supported"},
           {kLlama, R"({"hidden_act": "mish"})", "\"hidden_act\" is \"mish\"; supported: \"silu\""},
           {kLlama, R"({"num_attention_heads": 7})", "\"hidden_size\" 64 is not a multiple"},
           {kLlama, R"({"num_key_value_heads": 3})", "heads 8 is not a multiple of"},
           {kLlama, R"({"head_dim": 7})", "head size 7 is odd"},
           {kLlama, R"({"quantization_config": {}})",
            "\"quantization_config\" is {}; quantized weights are not supported"},
           {kLlama, R"({"rope_scaling": {"rope_type": "ntk"}})",
            "\"rope_scaling\": \"rope_type\" is \"ntk\"; supported: \"default\", \"linear\""},
           {kLlama, R"({"rope_scaling": {"type": "linear"}})", "\"factor\" is missing for linear"},
           {kLlama, R"({"rope_scaling": {"type": "llama3"}})",
            "my/config.json: \"rope_scaling\": \"factor\" is missing"},
           {kLlama, R"({"rope_scaling": 3})", "\"rope_scaling\" is 3"},
           {kLlama, R"({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})",
            "\"rope_theta\" is 500000 but the file's \"rope_theta\" is 10000; remove one"},
           {kLlama, R"({"rope_theta": -1})", "\"rope_theta\" is -1"},
       }) {
    EXPECT_THAT(ErrorOf(Patched(bad.base, bad.patch)), HasSubstr(bad.message)) << bad.patch;
  }
  EXPECT_THAT(ErrorOf("[1]"), HasSubstr("my/config.json: not a JSON object"));
  EXPECT_THAT(ErrorOf("{"), HasSubstr("my/config.json"));
  EXPECT_THAT(ErrorOf(R"({"model_type": "gpt2", "model_type": "llama"})"), HasSubstr("model_type"));
  EXPECT_THAT(std::string(ReadHfConfig("/no/such", nullptr).status().message()),
              HasSubstr("/no/such"));
  EXPECT_THAT(std::string(ModelPreset("gpt2-125m").status().message()),
              AllOf(HasSubstr("\"gpt2-125m\""), HasSubstr("gpt2-124m")));
}

TEST(FamiliesTest, EveryFamilyHasPresetsOfItsFeatures) {
  size_t num_presets = 0;
  for (const ModelFamily* family : ModelFamilies()) {
    EXPECT_EQ(family->new_config().family, family);
    for (const auto& [name, config] : family->presets()) {
      EXPECT_EQ(config.family, family) << name;
      ++num_presets;
    }
  }
  EXPECT_EQ(ModelPresetNames().size(), num_presets);
}

// A family that only this test knows: RoPE and SwiGLU under LayerNorms and with biases.
ModelConfig NewToyConfig();

void ReadToyKeys(HfKeys& keys, ModelConfig* config) {
  config->vocab_size = keys.Size("vocab_size");
  config->hidden_size = config->intermediate_size = config->max_positions = keys.Size("width");
  config->num_layers = config->num_heads = config->num_kv_heads = 1;
  config->head_dim = config->hidden_size;
}

void WriteToyKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  (*json)["width"] = config.hidden_size;
}

constexpr ModelFamily kToyFamily = {.model_type = "toy",
                                    .display_name = "Toy",
                                    .architecture = "ToyForCausalLM",
                                    .base_architecture = "ToyModel",
                                    .tensors = {.token_embedding = "in",
                                                .attention_norm = "$0.a.norm",
                                                .query = "$0.a.qkv",
                                                .key = "$0.a.qkv",
                                                .value = "$0.a.qkv",
                                                .attention_output = "$0.a.out",
                                                .mlp_norm = "$0.m.norm",
                                                .gate = "$0.m.gate",
                                                .up = "$0.m.up",
                                                .down = "$0.m.out",
                                                .final_norm = "norm",
                                                .head = "out"},
                                    .new_config = &NewToyConfig,
                                    .read_keys = &ReadToyKeys,
                                    .write_keys = &WriteToyKeys,
                                    .is_buffer = nullptr,
                                    .presets = nullptr};

ModelConfig NewToyConfig() {
  ModelConfig config;
  config.family = &kToyFamily;
  config.norm = NormKind::kLayerNorm;
  config.qkv_bias = config.attention_output_bias = config.mlp_bias = true;
  return config;
}

ModelConfig ToyModel() {
  ModelConfig config = NewToyConfig();
  config.vocab_size = 5;
  config.hidden_size = config.intermediate_size = config.max_positions = config.head_dim = 4;
  config.num_layers = config.num_heads = config.num_kv_heads = 1;
  return config;
}

TEST(FamiliesTest, AFamilyOfOnesOwnNeedsNoOtherFile) {
  const nlohmann::json json = nlohmann::json::parse(ToHfConfig(ToyModel()));
  EXPECT_EQ(json["architectures"], nlohmann::json({"ToyForCausalLM"}));
  EXPECT_EQ(json["width"], 4);
  ParameterArena arena;
  const Transformer model(ToyModel(), 4, &arena);
  std::vector<std::string> tensors;
  for (const ParameterRecord& record : arena.records()) {
    for (const HfSlice& slice : HfSlicesOf(record)) tensors.push_back(slice.name);
  }
  EXPECT_THAT(
      tensors,
      ElementsAre("in.weight", "0.a.norm.weight", "0.a.norm.bias", "0.a.qkv.weight", "0.a.qkv.bias",
                  "0.a.out.weight", "0.a.out.bias", "0.m.norm.weight", "0.m.norm.bias",
                  "0.m.gate.weight", "0.m.up.weight", "0.m.gate.bias", "0.m.up.bias",
                  "0.m.out.weight", "0.m.out.bias", "norm.weight", "norm.bias"));
}

TEST(FamiliesDeathTest, AModelThatTheFilesCannotExpressIsNotWritten) {
  ModelConfig config = ToyModel();
  config.gated_mlp = false;
  EXPECT_DEATH((void)ToHfConfig(config), "config.json of toy cannot express this model");
  ModelConfig grouped = *ModelPreset("gpt2-tiny");
  grouped.num_kv_heads = 2;
  EXPECT_DEATH((void)ToHfConfig(grouped), "config.json of gpt2 cannot express this model");
  config.family = nullptr;
  EXPECT_DEATH((void)ToHfConfig(config), "no family");
}

}  // namespace
}  // namespace strake
