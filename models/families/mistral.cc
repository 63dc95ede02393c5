#include "models/families/mistral.h"

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

constexpr LlamaKeys kKeys = {.default_max_positions = 131072, .default_kv_heads = 8};

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kMistralFamily;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  config->attention_kinds = {{.window = keys.SizeOrNull("sliding_window", 4096),
                              .rope = ReadRope(keys, RopeKeys(), RopeSizesOf(*config))}};
  keys.MustBeAbsent("layer_types", "all layers of this family have the same window");
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  const AttentionKind& kind = config.AttentionOf(0);
  WriteRope(*kind.rope, RopeKeys(), RopeSizesOf(config), json);
  (*json)["sliding_window"] = nullptr;
  if (kind.window != 0) (*json)["sliding_window"] = kind.window;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig v1 = WithSizes(NewConfig(), {32000, 32768, 32, 4096, 32, 8, 128, 14336});
  v1.attention_kinds[0].window = 4096;
  v1.tie_word_embeddings = false;
  return {{"mistral-7b", v1}};
}

}  // namespace

constexpr ModelFamily kMistralFamily = {.model_type = "mistral",
                                        .display_name = "Mistral",
                                        .architecture = "MistralForCausalLM",
                                        .base_architecture = "MistralModel",
                                        .tensors = kLlamaTensors,
                                        .new_config = &NewConfig,
                                        .read_keys = &ReadKeys,
                                        .write_keys = &WriteKeys,
                                        .is_buffer = &IsRopeBuffer,
                                        .presets = &Presets,
                                        .gguf = {.architecture = "llama",
                                                 .interleaved_rope = true,
                                                 .free_head_dim = true,
                                                 .rope_freqs = true,
                                                 .rope_factors = true}};

}  // namespace strake
