#include "models/families/granite.h"

#include <cmath>
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
  config.family = &kGraniteFamily;
  return config;
}

// transformers divides by it.
double ReadDivisor(HfKeys& keys, const char* key) { return 1 / keys.Number(key, 1, 1e-6, 1e6); }

// A divisor x with 1 / x = factor: the quotient rounds, to x or to a neighbour of it.
double Divisor(double factor) {
  const double quotient = 1 / factor;
  for (const double x : {std::nextafter(quotient, 0.0), std::nextafter(quotient, HUGE_VAL)}) {
    if (1 / quotient != factor && 1 / x == factor) return x;
  }
  return quotient;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  config->mlp_bias = keys.Bool("mlp_bias", false);
  config->embedding_scale = keys.Number("embedding_multiplier", 1, 1e-6, 1e6);
  config->residual_scale = keys.Number("residual_multiplier", 1, 1e-6, 1e6);
  config->score_scale = keys.Number("attention_multiplier", 1, 1e-6, 1e6);
  config->logits_scale = ReadDivisor(keys, "logits_scaling");
  config->attention_kinds[0].rope = ReadRope(keys, RopeKeys(), RopeSizesOf(*config));
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  (*json)["attention_bias"] = config.qkv_bias;
  (*json)["mlp_bias"] = config.mlp_bias;
  (*json)["embedding_multiplier"] = config.embedding_scale;
  (*json)["residual_multiplier"] = config.residual_scale;
  (*json)["attention_multiplier"] = config.score_scale;
  (*json)["logits_scaling"] = Divisor(config.logits_scale);
  WriteRope(*config.AttentionOf(0).rope, RopeKeys(), RopeSizesOf(config), json);
}

std::vector<std::pair<std::string, ModelConfig>> Presets() { return {}; }

}  // namespace

constexpr ModelFamily kGraniteFamily = {.model_type = "granite",
                                        .display_name = "Granite",
                                        .architecture = "GraniteForCausalLM",
                                        .base_architecture = "GraniteModel",
                                        .tensors = kLlamaTensors,
                                        .new_config = &NewConfig,
                                        .read_keys = &ReadKeys,
                                        .write_keys = &WriteKeys,
                                        .is_buffer = &IsRopeBuffer,
                                        .presets = &Presets,
                                        .gguf = {.architecture = "granite",
                                                 .interleaved_rope = true,
                                                 .free_head_dim = true,
                                                 .qkv_bias = GgufUse::kMay,
                                                 .attention_output_bias = GgufUse::kMay,
                                                 .mlp_bias = GgufUse::kMay,
                                                 .rope_freqs = true,
                                                 .rope_factors = true,
                                                 .scales = true}};

}  // namespace strake
