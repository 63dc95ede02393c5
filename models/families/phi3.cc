#include "models/families/phi3.h"

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

constexpr LlamaKeys kKeys = {.default_max_positions = 4096, .default_norm_eps = 1e-5};

RopeKeys Rope() {
  return {.share = "partial_rotary_factor",
          .types = {"default", "longrope", "su", "yarn"},
          .default_original_positions = 4096};
}

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kPhi3Family;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  config->attention_kinds = {{.window = keys.SizeOrNull("sliding_window", 0),
                              .rope = ReadRope(keys, Rope(), RopeSizesOf(*config))}};
  keys.NoteDropout({"embd_pdrop", "resid_pdrop"}, 0);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  const AttentionKind& kind = config.AttentionOf(0);
  WriteRope(*kind.rope, Rope(), RopeSizesOf(config), json);
  // Other readers of the family's files need the key.
  (*json).emplace("original_max_position_embeddings", config.max_positions);
  (*json)["sliding_window"] = nullptr;
  if (kind.window != 0) (*json)["sliding_window"] = kind.window;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig config = WithSizes(NewConfig(), {32064, 4096, 32, 3072, 32, 32, 96, 8192});
  config.attention_kinds[0].window = 2047;
  config.tie_word_embeddings = false;
  return {{"phi-3-mini", config}};
}

constexpr TensorNames Tensors() {
  TensorNames names = kLlamaTensors;
  names.query = names.key = names.value = "model.layers.$0.self_attn.qkv_proj";
  names.gate = names.up = "model.layers.$0.mlp.gate_up_proj";
  return names;
}

}  // namespace

constexpr ModelFamily kPhi3Family = {.model_type = "phi3",
                                     .display_name = "Phi-3",
                                     .architecture = "Phi3ForCausalLM",
                                     .base_architecture = "Phi3Model",
                                     .tensors = Tensors(),
                                     .new_config = &NewConfig,
                                     .read_keys = &ReadKeys,
                                     .write_keys = &WriteKeys,
                                     .is_buffer = &IsRopeBuffer,
                                     .presets = &Presets,
                                     .gguf = {.architecture = "phi3", .rope_factors = true}};

}  // namespace strake
