#include "models/families/olmo3.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/olmo2.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

RopeByLayerType DefaultRopes() {
  return {.windowed = {.theta = 500000}, .full = {.theta = 500000}};
}

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kOlmo3Family;
  config.norm_place = NormPlace::kAfter;
  config.qk_norm = QkNorm::kWhole;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kOlmoKeys, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  const std::vector<bool> windowed = ReadWindowedLayers(keys, *config, AllButEvery(4, *config));
  const int64_t window = keys.SizeOrNull("sliding_window", 4096);
  const RopeByLayerType ropes =
      ReadRopeByLayerType(keys, DefaultRopes(), nullptr, RopeSizesOf(*config));
  CheckLayerWindows(keys, windowed, window);
  SetLayers(windowed, window, ropes, config);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kOlmoKeys, json);
  (*json)["attention_bias"] = config.qkv_bias;
  if (WindowOf(config) != 0) (*json)["sliding_window"] = WindowOf(config);
  WriteLayerTypes(config, json);
  WriteRopeByLayerType(RopesOf(config, DefaultRopes()), DefaultRopes(), nullptr, json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() { return {}; }

}  // namespace

constexpr ModelFamily kOlmo3Family = {.model_type = "olmo3",
                                      .display_name = "OLMo 3",
                                      .architecture = "Olmo3ForCausalLM",
                                      .base_architecture = "Olmo3Model",
                                      .tensors = OlmoTensors(),
                                      .new_config = &NewConfig,
                                      .read_keys = &ReadKeys,
                                      .write_keys = &WriteKeys,
                                      .is_buffer = &IsRopeBuffer,
                                      .presets = &Presets,
                                      .gguf = {.architecture = "olmo2",
                                               .head = GgufUse::kAlways,
                                               .window_period = 4,
                                               .window_rope = GgufWindowRope::kUnscaled}};

}  // namespace strake
