#include "models/families/gemma3_text.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/families/gemma2.h"
#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys = GemmaKeys(131072);
constexpr char kPattern[] = "sliding_window_pattern";
constexpr int64_t kDefaultPattern = 6;
constexpr char kWindowedTheta[] = "rope_local_base_freq";

RopeByLayerType DefaultRopes() {
  return {.windowed = {.theta = 10000}, .full = {.theta = 1000000}};
}

ModelConfig NewConfig() {
  ModelConfig config = NewGemmaConfig(&kGemma3TextFamily);
  config.qk_norm = QkNorm::kPerHead;
  return config;
}

std::vector<bool> ReadWindows(HfKeys& keys, const ModelConfig& config) {
  const std::vector<bool> by_pattern = AllButEvery(keys.Size(kPattern, kDefaultPattern), config);
  const std::vector<bool> windowed = ReadWindowedLayers(keys, config, by_pattern);
  if (keys.Has(kPattern) && windowed != by_pattern) {
    keys.Fail(absl::StrCat("\"", kPattern, "\" is ", keys.Size(kPattern, kDefaultPattern),
                           " but \"layer_types\" has another pattern; remove one"));
  }
  return windowed;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadGemmaKeys(keys, kKeys, config);
  config->logits_softcap = keys.PositiveOrNull("final_logit_softcapping", 0);
  keys.MustBeAbsent("attn_logit_softcapping", "transformers does not apply it in this family");
  const std::vector<bool> windowed = ReadWindows(keys, *config);
  const int64_t window = keys.SizeOrNull("sliding_window", 4096);
  const RopeByLayerType ropes =
      ReadRopeByLayerType(keys, DefaultRopes(), kWindowedTheta, RopeSizesOf(*config));
  CheckLayerWindows(keys, windowed, window);
  SetLayers(windowed, window, ropes, config);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteGemmaKeys(config, kKeys, json);
  WriteRopeByLayerType(RopesOf(config, DefaultRopes()), DefaultRopes(), kWindowedTheta, json);
}

ModelConfig Preset(const LlamaSizes& sizes) {
  ModelConfig config = WithGemmaSizes(NewConfig(), sizes, 256);
  SetLayers(AllButEvery(kDefaultPattern, config), 512, DefaultRopes(), &config);
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  return {{"gemma-3-270m", Preset({262144, 32768, 18, 640, 4, 1, 256, 2048})},
          {"gemma-3-1b", Preset({262144, 32768, 26, 1152, 4, 1, 256, 6912})}};
}

constexpr TensorNames Tensors() {
  TensorNames names = GemmaTensors();
  names.query_norm = "model.layers.$0.self_attn.q_norm";
  names.key_norm = "model.layers.$0.self_attn.k_norm";
  return names;
}

constexpr IrrelevantKey kIrrelevantKeys[] = {
    kGemmaIrrelevantKeys[0],
    {"_sliding_window_pattern", "transformers keeps it beside \"layer_types\", which it reads"}};

}  // namespace

constexpr ModelFamily kGemma3TextFamily = {.model_type = "gemma3_text",
                                           .display_name = "Gemma 3",
                                           .architecture = "Gemma3ForCausalLM",
                                           .base_architecture = "Gemma3TextModel",
                                           .tensors = Tensors(),
                                           .irrelevant_keys = kIrrelevantKeys,
                                           .new_config = &NewConfig,
                                           .read_keys = &ReadKeys,
                                           .write_keys = &WriteKeys,
                                           .is_buffer = &IsRopeBuffer,
                                           .presets = &Presets,
                                           .gguf = {.architecture = "gemma3",
                                                    .free_head_dim = true,
                                                    .activation = ActivationKind::kGeluTanh,
                                                    .logits_softcap = GgufUse::kMay,
                                                    .window_period = 6,
                                                    .window_rope = GgufWindowRope::kOwnBase,
                                                    .gemma_scales = true,
                                                    .large_num_layers = 62}};

}  // namespace strake
