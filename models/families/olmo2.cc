#include "models/families/olmo2.h"

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

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kOlmo2Family;
  config.norm_place = NormPlace::kAfter;
  config.qk_norm = QkNorm::kWhole;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kOlmoKeys, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  config->attention_kinds[0].rope = ReadRope(keys, RopeKeys(), RopeSizesOf(*config));
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kOlmoKeys, json);
  (*json)["attention_bias"] = config.qkv_bias;
  WriteRope(*config.AttentionOf(0).rope, RopeKeys(), RopeSizesOf(config), json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig config = WithSizes(NewConfig(), {100352, 4096, 16, 2048, 16, 16, 128, 8192});
  config.norm_eps = 1e-6;
  config.attention_kinds[0].rope->theta = 500000;
  config.tie_word_embeddings = false;
  return {{"olmo-2-1b", config}};
}

}  // namespace

constexpr ModelFamily kOlmo2Family = {.model_type = "olmo2",
                                      .display_name = "OLMo 2",
                                      .architecture = "Olmo2ForCausalLM",
                                      .base_architecture = "Olmo2Model",
                                      .tensors = OlmoTensors(),
                                      .new_config = &NewConfig,
                                      .read_keys = &ReadKeys,
                                      .write_keys = &WriteKeys,
                                      .is_buffer = &IsRopeBuffer,
                                      .presets = &Presets,
                                      .gguf = {.architecture = "olmo2", .head = GgufUse::kAlways}};

}  // namespace strake
