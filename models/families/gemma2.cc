#include "models/families/gemma2.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys = GemmaKeys(8192);

ModelConfig NewConfig() { return NewGemmaConfig(&kGemma2Family); }

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadGemmaKeys(keys, kKeys, config);
  config->score_softcap = keys.PositiveOrNull("attn_logit_softcapping", 50);
  config->logits_softcap = keys.PositiveOrNull("final_logit_softcapping", 30);
  const RopeConfig rope = ReadRope(keys, {.one_for_all_layers = true}, RopeSizesOf(*config));
  const std::vector<bool> windowed = ReadWindowedLayers(keys, *config, AllButEvery(2, *config));
  const int64_t window = keys.SizeOrNull("sliding_window", 4096);
  CheckLayerWindows(keys, windowed, window);
  SetLayers(windowed, window, {rope, rope}, config);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteGemmaKeys(config, kKeys, json);
  (*json)["attn_logit_softcapping"] = nullptr;
  if (config.score_softcap != 0) (*json)["attn_logit_softcapping"] = config.score_softcap;
  WriteRope(*config.AttentionOf(0).rope, RopeKeys(), RopeSizesOf(config), json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig config = WithGemmaSizes(NewConfig(), {256000, 8192, 26, 2304, 8, 4, 256, 9216}, 256);
  config.score_softcap = 50;
  config.logits_softcap = 30;
  SetLayers(AllButEvery(2, config), 4096, {RopeConfig(), RopeConfig()}, &config);
  return {{"gemma-2-2b", config}};
}

}  // namespace

ModelConfig NewGemmaConfig(const ModelFamily* family) {
  ModelConfig config;
  config.family = family;
  config.norm_place = NormPlace::kBeforeAndAfter;
  config.norm_eps = 1e-6;
  config.norm_weight_plus_one = true;
  config.round_embedding_scale = true;
  config.activation = ActivationKind::kGeluTanh;
  return config;
}

ModelConfig WithGemmaSizes(ModelConfig config, const LlamaSizes& sizes, int64_t score_dim) {
  config = WithSizes(std::move(config), sizes);
  config.embedding_scale = std::sqrt(double(config.hidden_size));
  config.score_scale = 1 / std::sqrt(double(score_dim));
  return config;
}

void ReadGemmaKeys(HfKeys& keys, const LlamaKeys& names, ModelConfig* config) {
  ReadLlamaKeys(keys, names, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  config->embedding_scale = std::sqrt(double(config->hidden_size));
  config->score_scale = 1 / std::sqrt(double(keys.Size("query_pre_attn_scalar", 256)));
  if (!keys.IsNull("use_bidirectional_attention")) {
    keys.MustBe("use_bidirectional_attention", false);
  }
}

void WriteGemmaKeys(const ModelConfig& config, const LlamaKeys& names,
                    nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, names, json);
  (*json)["attention_bias"] = config.qkv_bias;
  (*json)["query_pre_attn_scalar"] = std::llround(1 / (config.score_scale * config.score_scale));
  (*json)["final_logit_softcapping"] = nullptr;
  if (config.logits_softcap != 0) (*json)["final_logit_softcapping"] = config.logits_softcap;
  if (WindowOf(config) != 0) (*json)["sliding_window"] = WindowOf(config);
  WriteLayerTypes(config, json);
}

constexpr ModelFamily kGemma2Family = {.model_type = "gemma2",
                                       .display_name = "Gemma 2",
                                       .architecture = "Gemma2ForCausalLM",
                                       .base_architecture = "Gemma2Model",
                                       .tensors = GemmaTensors(),
                                       .irrelevant_keys = kGemmaIrrelevantKeys,
                                       .new_config = &NewConfig,
                                       .read_keys = &ReadKeys,
                                       .write_keys = &WriteKeys,
                                       .is_buffer = &IsRopeBuffer,
                                       .presets = &Presets,
                                       .gguf = {.architecture = "gemma2",
                                                .free_head_dim = true,
                                                .activation = ActivationKind::kGeluTanh,
                                                .head = GgufUse::kNever,
                                                .score_softcap = GgufUse::kAlways,
                                                .logits_softcap = GgufUse::kAlways,
                                                .window_period = 2,
                                                .gemma_scales = true,
                                                .large_num_layers = 46}};

}  // namespace strake
