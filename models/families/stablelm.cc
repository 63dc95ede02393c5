#include "models/families/stablelm.h"

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

constexpr LlamaKeys kKeys = {.default_max_positions = 4096,
                             .default_kv_heads = 32,
                             .fixed_head_dim = true,
                             .norm_eps = "layer_norm_eps",
                             .default_norm_eps = 1e-5};

RopeKeys Rope() { return {.share = "partial_rotary_factor", .default_share = 0.25}; }

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kStableLmFamily;
  config.norm = NormKind::kLayerNorm;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  config->qkv_bias = keys.Bool("use_qkv_bias", false);
  config->attention_kinds[0].rope = ReadRope(keys, Rope(), RopeSizesOf(*config));
  keys.MustBe("qk_layernorm", false);
  keys.MustBe("use_parallel_residual", false);
  keys.NoteDropout({"hidden_dropout"}, 0);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  (*json)["use_qkv_bias"] = config.qkv_bias;
  // Not all readers have transformers' defaults.
  (*json)["qk_layernorm"] = (*json)["use_parallel_residual"] = false;
  WriteRope(*config.AttentionOf(0).rope, Rope(), RopeSizesOf(config), json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig config = WithSizes(NewConfig(), {100352, 4096, 24, 2048, 32, 32, 64, 5632});
  config.qkv_bias = true;
  config.attention_kinds[0].rope->rotary_dim = config.head_dim / 4;
  config.tie_word_embeddings = false;
  return {{"stablelm-2-1.6b", config}};
}

}  // namespace

constexpr ModelFamily kStableLmFamily = {
    .model_type = "stablelm",
    .display_name = "StableLM",
    .architecture = "StableLmForCausalLM",
    .base_architecture = "StableLmModel",
    .tensors = kLlamaTensors,
    .new_config = &NewConfig,
    .read_keys = &ReadKeys,
    .write_keys = &WriteKeys,
    .is_buffer = &IsRopeBuffer,
    .presets = &Presets,
    .gguf = {.architecture = "stablelm", .qkv_bias = GgufUse::kMay, .head = GgufUse::kAlways}};

}  // namespace strake
