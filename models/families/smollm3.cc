#include "models/families/smollm3.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys = {
    .default_max_positions = 32768, .default_kv_heads = 4, .default_tied = true};
constexpr double kTheta = 2000000;

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kSmolLm3Family;
  return config;
}

// Returns for each layer whether it has RoPE. The list may be longer than the model.
std::vector<bool> ReadRotatedLayers(HfKeys& keys, const ModelConfig& config) {
  const int64_t interval = keys.Size("no_rope_layer_interval", 4);
  const std::vector<double> list = keys.Numbers("no_rope_layers", 0, 1);
  const bool listed = keys.Has("no_rope_layers");
  if (listed && static_cast<int64_t>(list.size()) < config.num_layers) {
    keys.Fail(absl::StrCat("\"no_rope_layers\" has ", list.size(), " values for ",
                           config.num_layers, " layers"));
  }
  if (!listed) return AllButEvery(interval, config);
  std::vector<bool> rotated;
  for (int64_t layer = 0; layer < NumListedLayers(config); ++layer) {
    rotated.push_back(layer < static_cast<int64_t>(list.size()) && list[layer] != 0);
  }
  return rotated;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  config->mlp_bias = keys.Bool("mlp_bias", false);
  const RopeConfig rope =
      ReadRope(keys, {.default_theta = kTheta, .one_for_all_layers = true}, RopeSizesOf(*config));
  const bool uses_windows = keys.Bool("use_sliding_window", false);
  const int64_t size = keys.SizeOrNull("sliding_window", 0);
  const int64_t window = uses_windows ? size : 0;

  const std::vector<bool> rotated = ReadRotatedLayers(keys, *config);
  std::vector<bool> windowed;
  for (const bool has_rope : rotated) windowed.push_back(window != 0 && !has_rope);
  windowed = ReadWindowedLayers(keys, *config, windowed);
  CheckLayerWindows(keys, windowed, window);
  std::vector<AttentionKind> layers;
  for (size_t layer = 0; layer < rotated.size(); ++layer) {
    AttentionKind& kind = layers.emplace_back();
    if (windowed[layer]) kind.window = window;
    if (rotated[layer]) kind.rope = rope;
  }
  SetLayers(layers, config);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  (*json)["attention_bias"] = config.qkv_bias;
  (*json)["mlp_bias"] = config.mlp_bias;
  RopeConfig rope = {.theta = kTheta};
  for (const AttentionKind& kind : config.attention_kinds) rope = kind.rope.value_or(rope);
  WriteRope(rope, RopeKeys(), RopeSizesOf(config), json);
  auto rotated = nlohmann::ordered_json::array();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    rotated.push_back(config.AttentionOf(layer).rope.has_value() ? 1 : 0);
  }
  (*json)["no_rope_layers"] = rotated;
  const int64_t window = WindowOf(config);
  (*json)["use_sliding_window"] = window != 0;
  if (window == 0) return;
  (*json)["sliding_window"] = window;
  WriteLayerTypes(config, json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig config = WithSizes(NewConfig(), {128256, 65536, 36, 2048, 16, 4, 128, 11008});
  config.norm_eps = 1e-6;
  std::vector<AttentionKind> layers;
  for (const bool rotated : AllButEvery(4, config)) {
    AttentionKind& kind = layers.emplace_back();
    if (rotated) kind.rope = RopeConfig{.theta = 5000000};
  }
  SetLayers(layers, &config);
  return {{"smollm3-3b", config}};
}

}  // namespace

constexpr ModelFamily kSmolLm3Family = {.model_type = "smollm3",
                                        .display_name = "SmolLM3",
                                        .architecture = "SmolLM3ForCausalLM",
                                        .base_architecture = "SmolLM3Model",
                                        .tensors = kLlamaTensors,
                                        .new_config = &NewConfig,
                                        .read_keys = &ReadKeys,
                                        .write_keys = &WriteKeys,
                                        .is_buffer = &IsRopeBuffer,
                                        .presets = &Presets,
                                        .gguf = {.architecture = "smollm3",
                                                 .interleaved_rope = true,
                                                 .free_head_dim = true,
                                                 .no_rope_period = 4}};

}  // namespace strake
