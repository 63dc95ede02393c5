#include "models/families/qwen3.h"

#include <string>
#include <utility>
#include <vector>

#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/qwen2.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys = {
    .default_max_positions = 32768, .default_kv_heads = 32, .default_head_dim = 128};

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kQwen3Family;
  config.qk_norm = QkNorm::kPerHead;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadQwenKeys(keys, kKeys, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteQwenKeys(config, kKeys, json);
  (*json)["attention_bias"] = config.qkv_bias;
}

ModelConfig Preset(const LlamaSizes& sizes, bool tied) {
  ModelConfig config = WithSizes(NewConfig(), sizes);
  config.norm_eps = 1e-6;
  config.attention_kinds[0].rope->theta = 1000000;
  config.tie_word_embeddings = tied;
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  return {{"qwen3-0.6b", Preset({151936, 40960, 28, 1024, 16, 8, 128, 3072}, true)},
          {"qwen3-1.7b", Preset({151936, 40960, 28, 2048, 16, 8, 128, 6144}, true)},
          {"qwen3-8b", Preset({151936, 40960, 36, 4096, 32, 8, 128, 12288}, false)}};
}

constexpr TensorNames Tensors() {
  TensorNames names = kLlamaTensors;
  names.query_norm = "model.layers.$0.self_attn.q_norm";
  names.key_norm = "model.layers.$0.self_attn.k_norm";
  return names;
}

}  // namespace

constexpr ModelFamily kQwen3Family = {.model_type = "qwen3",
                                      .display_name = "Qwen3",
                                      .architecture = "Qwen3ForCausalLM",
                                      .base_architecture = "Qwen3Model",
                                      .tensors = Tensors(),
                                      .new_config = &NewConfig,
                                      .read_keys = &ReadKeys,
                                      .write_keys = &WriteKeys,
                                      .is_buffer = &IsRopeBuffer,
                                      .presets = &Presets,
                                      .gguf = {.architecture = "qwen3", .free_head_dim = true}};

}  // namespace strake
