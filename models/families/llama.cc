#include "models/families/llama.h"

#include <string>
#include <utility>
#include <vector>

#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys;

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kLlamaFamily;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  config->mlp_bias = keys.Bool("mlp_bias", false);
  config->attention_kinds[0].rope = ReadRope(keys, RopeKeys(), RopeSizesOf(*config));
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  (*json)["attention_bias"] = config.qkv_bias;
  (*json)["mlp_bias"] = config.mlp_bias;
  WriteRope(*config.AttentionOf(0).rope, RopeKeys(), RopeSizesOf(config), json);
}

ModelConfig Preset(const LlamaSizes& sizes, double theta, bool tied) {
  ModelConfig config = WithSizes(NewConfig(), sizes);
  config.attention_kinds[0].rope->theta = theta;
  config.tie_word_embeddings = tied;
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig llama32 = Preset({128256, 131072, 16, 2048, 32, 8, 64, 8192}, 500000, true);
  llama32.attention_kinds[0].rope->scaling = RopeWavelengthScaling{32, 1, 4, 8192};
  return {{"llama-tiny", Preset({256, 256, 4, 128, 4, 2, 32, 384}, 10000, true)},
          {"llama-mini", Preset({256, 512, 6, 384, 6, 2, 64, 1024}, 10000, true)},
          {"llama-100m", Preset({32000, 2048, 12, 768, 12, 4, 64, 2048}, 10000, true)},
          {"llama-3-8b", Preset({128256, 8192, 32, 4096, 32, 8, 128, 14336}, 500000, false)},
          {"llama-3.2-1b", llama32},
          {"smollm2-135m", Preset({49152, 8192, 30, 576, 9, 3, 64, 1536}, 100000, true)},
          {"smollm2-360m", Preset({49152, 8192, 32, 960, 15, 5, 64, 2560}, 100000, true)}};
}

}  // namespace

constexpr ModelFamily kLlamaFamily = {.model_type = "llama",
                                      .display_name = "Llama",
                                      .architecture = "LlamaForCausalLM",
                                      .base_architecture = "LlamaModel",
                                      .tensors = kLlamaTensors,
                                      .new_config = &NewConfig,
                                      .read_keys = &ReadKeys,
                                      .write_keys = &WriteKeys,
                                      .is_buffer = &IsRopeBuffer,
                                      .presets = &Presets,
                                      .gguf = {.architecture = "llama",
                                               .interleaved_rope = true,
                                               .free_head_dim = true,
                                               .qkv_bias = GgufUse::kMay,
                                               .attention_output_bias = GgufUse::kMay,
                                               .mlp_bias = GgufUse::kMay,
                                               .rope_freqs = true,
                                               .rope_factors = true}};

}  // namespace strake
