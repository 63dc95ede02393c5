#include "models/families/gpt_neox.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "models/families/rope_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr LlamaKeys kKeys = {.fixed_head_dim = true,
                             .norm_eps = "layer_norm_eps",
                             .default_norm_eps = 1e-5,
                             .default_activation = "gelu"};

RopeKeys Rope() {
  return {.theta = "rotary_emb_base", .share = "rotary_pct", .default_share = 0.25};
}

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kGptNeoxFamily;
  config.norm = NormKind::kLayerNorm;
  config.activation = ActivationKind::kGelu;
  config.gated_mlp = false;
  config.mlp_bias = true;
  return config;
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadLlamaKeys(keys, kKeys, config);
  if (config->num_kv_heads != config->num_heads) {
    keys.MustBeAbsent("num_key_value_heads", "the family has as many as query heads");
  }
  config->parallel_residual = keys.Bool("use_parallel_residual", true);
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", true);
  config->attention_kinds[0].rope = ReadRope(keys, Rope(), RopeSizesOf(*config));
  keys.NoteDropout({"hidden_dropout"}, 0);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteLlamaKeys(config, kKeys, json);
  (*json)["use_parallel_residual"] = config.parallel_residual;
  (*json)["attention_bias"] = config.qkv_bias;
  WriteRope(*config.AttentionOf(0).rope, Rope(), RopeSizesOf(config), json);
}

// Masks and RoPE's tables.
bool IsBuffer(absl::string_view name, const Shape& shape) {
  return absl::EndsWith(name, ".attention.masked_bias") ||
         absl::EndsWith(name, ".attention.bias") || IsRopeBuffer(name, shape);
}

ModelConfig Preset(int64_t layers, int64_t hidden, int64_t heads) {
  ModelConfig config = WithSizes(
      NewConfig(), {50304, 2048, layers, hidden, heads, heads, hidden / heads, 4 * hidden});
  config.parallel_residual = true;
  config.qkv_bias = config.attention_output_bias = true;
  config.attention_kinds[0].rope->rotary_dim = config.head_dim / 4;
  config.tie_word_embeddings = false;
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  return {{"pythia-70m", Preset(6, 512, 8)}, {"pythia-160m", Preset(12, 768, 12)}};
}

constexpr TensorNames kTensors = {.token_embedding = "gpt_neox.embed_in",
                                  .attention_norm = "gpt_neox.layers.$0.input_layernorm",
                                  .query = "gpt_neox.layers.$0.attention.query_key_value",
                                  .key = "gpt_neox.layers.$0.attention.query_key_value",
                                  .value = "gpt_neox.layers.$0.attention.query_key_value",
                                  .attention_output = "gpt_neox.layers.$0.attention.dense",
                                  .mlp_norm = "gpt_neox.layers.$0.post_attention_layernorm",
                                  .up = "gpt_neox.layers.$0.mlp.dense_h_to_4h",
                                  .down = "gpt_neox.layers.$0.mlp.dense_4h_to_h",
                                  .final_norm = "gpt_neox.final_layer_norm",
                                  .head = "embed_out",
                                  .transposed = true,
                                  .interleaved_heads = true,
                                  .optional_prefix = "gpt_neox."};

constexpr IrrelevantKey kIrrelevantKeys[] = {
    {"classifier_dropout", "it belongs to models that classify"}};

}  // namespace

constexpr ModelFamily kGptNeoxFamily = {.model_type = "gpt_neox",
                                        .display_name = "GPT-NeoX",
                                        .architecture = "GPTNeoXForCausalLM",
                                        .base_architecture = "GPTNeoXModel",
                                        .tensors = kTensors,
                                        .irrelevant_keys = kIrrelevantKeys,
                                        .new_config = &NewConfig,
                                        .read_keys = &ReadKeys,
                                        .write_keys = &WriteKeys,
                                        .is_buffer = &IsBuffer,
                                        .presets = &Presets,
                                        .gguf = {.architecture = "gptneox",
                                                 .activation = ActivationKind::kGeluTanh,
                                                 .qkv_bias = GgufUse::kAlways,
                                                 .attention_output_bias = GgufUse::kAlways,
                                                 .mlp_bias = GgufUse::kAlways,
                                                 .head = GgufUse::kAlways,
                                                 .parallel_residual = true}};

}  // namespace strake
