#include "models/families/qwen2.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "models/families/hf_keys.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys = {.default_max_positions = 32768, .default_kv_heads = 32};

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kQwen2Family;
  config.qkv_bias = true;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) { ReadQwenKeys(keys, kKeys, config); }

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteQwenKeys(config, kKeys, json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig config = WithSizes(NewConfig(), {151936, 32768, 24, 896, 14, 2, 64, 4864});
  config.norm_eps = 1e-6;
  config.attention_kinds[0].rope->theta = 1000000;
  return {{"qwen2.5-0.5b", config}};
}

}  // namespace

void ReadQwenKeys(HfKeys& keys, const LlamaKeys& names, ModelConfig* config) {
  ReadLlamaKeys(keys, names, config);
  const RopeConfig rope = ReadRope(keys, {.one_for_all_layers = true}, RopeSizesOf(*config));
  const bool uses_windows = keys.Bool("use_sliding_window", false);
  const int64_t size = keys.SizeOrNull("sliding_window", 4096);
  const int64_t window = uses_windows ? size : 0;
  const int64_t first = keys.Size("max_window_layers", 28, 0);
  std::vector<bool> windowed;
  for (int64_t layer = 0; layer < NumListedLayers(*config); ++layer) {
    windowed.push_back(window != 0 && layer >= first);
  }
  windowed = ReadWindowedLayers(keys, *config, windowed);
  CheckLayerWindows(keys, windowed, window);
  SetLayers(windowed, window, {rope, rope}, config);
}

void WriteQwenKeys(const ModelConfig& config, const LlamaKeys& names,
                   nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, names, json);
  WriteRope(*config.AttentionOf(0).rope, RopeKeys(), RopeSizesOf(config), json);
  const int64_t window = WindowOf(config);
  (*json)["use_sliding_window"] = window != 0;
  if (window == 0) return;
  (*json)["sliding_window"] = window;
  int64_t first = 0;  // what versions of transformers without "layer_types" read
  while (config.AttentionOf(first).window == 0) ++first;
  (*json)["max_window_layers"] = first;
  WriteLayerTypes(config, json);
}

constexpr ModelFamily kQwen2Family = {
    .model_type = "qwen2",
    .display_name = "Qwen2",
    .architecture = "Qwen2ForCausalLM",
    .base_architecture = "Qwen2Model",
    .tensors = kLlamaTensors,
    .new_config = &NewConfig,
    .read_keys = &ReadKeys,
    .write_keys = &WriteKeys,
    .is_buffer = &IsRopeBuffer,
    .presets = &Presets,
    .gguf = {.architecture = "qwen2", .qkv_bias = GgufUse::kAlways}};

}  // namespace strake
