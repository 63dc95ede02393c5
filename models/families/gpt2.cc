#include "models/families/gpt2.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/families/llama_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

ModelConfig NewConfig() { return NewGpt2Config(&kGpt2Family); }

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadGpt2Keys(keys, "gelu_new", config);
  config->num_kv_heads = config->num_heads;
  config->score_scale_by_layer = keys.Bool("scale_attn_by_inverse_layer_idx", false);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteGpt2Keys(config, json);
  (*json)["scale_attn_by_inverse_layer_idx"] = config.score_scale_by_layer;
  (*json)["n_ctx"] = config.max_positions;  // other readers of GPT-2's files need it
}

ModelConfig Preset(int64_t vocab, int64_t positions, int64_t layers, int64_t hidden,
                   int64_t heads) {
  ModelConfig config = NewConfig();
  config.vocab_size = vocab;
  config.max_positions = positions;
  config.num_layers = layers;
  config.hidden_size = hidden;
  config.num_heads = config.num_kv_heads = heads;
  config.head_dim = hidden / heads;
  config.intermediate_size = 4 * hidden;
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  return {{"gpt2-tiny", Preset(256, 256, 4, 128, 4)},
          {"gpt2-mini", Preset(256, 512, 6, 384, 6)},
          {"gpt2-124m", Preset(50257, 1024, 12, 768, 12)},
          {"gpt2-355m", Preset(50257, 1024, 24, 1024, 16)},
          {"gpt2-774m", Preset(50257, 1024, 36, 1280, 20)},
          {"gpt2-1558m", Preset(50257, 1024, 48, 1600, 25)}};
}

constexpr IrrelevantKey kIrrelevantKeys[] = {
    {"n_ctx", "an older name of n_positions, which transformers does not read"},
    {"reorder_and_upcast_attn", "scores are computed in f32 in any case"},
    {"summary_type", "it belongs to models that classify"},
    {"summary_use_proj", "it belongs to models that classify"},
    {"summary_activation", "it belongs to models that classify"},
    {"summary_proj_to_labels", "it belongs to models that classify"},
    {"summary_first_dropout", "it belongs to models that classify"},
    {"summary_last_dropout", "it belongs to models that classify"},
    {"classifier_dropout", "it belongs to models that classify"},
    {"hidden_dropout", "it belongs to models that classify"}};

}  // namespace

ModelConfig NewGpt2Config(const ModelFamily* family) {
  ModelConfig config;
  config.family = family;
  config.norm = NormKind::kLayerNorm;
  config.activation = ActivationKind::kGeluTanh;
  config.gated_mlp = false;
  config.learned_positions = true;
  config.attention_kinds = {AttentionKind()};
  config.qkv_bias = config.attention_output_bias = true;
  config.mlp_bias = true;
  config.scale_residual_init = true;
  return config;
}

void ReadGpt2Keys(HfKeys& keys, const char* default_activation, ModelConfig* config) {
  config->vocab_size = keys.Size("vocab_size");
  config->max_positions = keys.SizeOfTwoNames("n_positions", "max_position_embeddings");
  config->hidden_size = keys.SizeOfTwoNames("n_embd", "hidden_size");
  config->num_layers = keys.SizeOfTwoNames("n_layer", "num_hidden_layers");
  config->num_heads = keys.SizeOfTwoNames("n_head", "num_attention_heads");
  config->head_dim = config->hidden_size / config->num_heads;
  config->intermediate_size = keys.Size("n_inner", 4 * config->hidden_size);
  config->norm_eps = keys.Number("layer_norm_epsilon", 1e-5, 0, 1);
  config->initializer_range = keys.Number("initializer_range", 0.02, 0, 100);
  config->tie_word_embeddings = keys.Bool("tie_word_embeddings", true);
  config->activation = ReadActivation(keys, "activation_function", default_activation);
  keys.MustBe("scale_attn_weights", true);
  keys.MustBe("add_cross_attention", false);
  keys.NoteDropout({"attn_pdrop", "embd_pdrop", "resid_pdrop"}, 0.1);
  if (config->num_heads * config->head_dim != config->hidden_size) {
    keys.Fail(absl::StrCat("the hidden size ", config->hidden_size,
                           " is not a multiple of the number of heads ", config->num_heads));
  }
}

void WriteGpt2Keys(const ModelConfig& config, nlohmann::ordered_json* json) {
  (*json)["n_positions"] = config.max_positions;
  (*json)["n_embd"] = config.hidden_size;
  (*json)["n_layer"] = config.num_layers;
  (*json)["n_head"] = config.num_heads;
  (*json)["n_inner"] = config.intermediate_size;
  (*json)["activation_function"] = config.activation == ActivationKind::kGeluTanh
                                       ? "gelu_new"  // the name that GPT-2's own files have
                                       : HfActivationName(config.activation);
  (*json)["layer_norm_epsilon"] = config.norm_eps;
  for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) (*json)[key] = 0.0;
}

// The causal mask.
bool IsGpt2Buffer(absl::string_view name, const Shape& shape) {
  return absl::EndsWith(name, ".attn.masked_bias") ||
         (absl::EndsWith(name, ".attn.bias") && shape.size() == 4 && shape[0] == 1 &&
          shape[1] == 1);
}

constexpr ModelFamily kGpt2Family = {.model_type = "gpt2",
                                     .display_name = "GPT-2",
                                     .architecture = "GPT2LMHeadModel",
                                     .base_architecture = "GPT2Model",
                                     .tensors = kGpt2Tensors,
                                     .irrelevant_keys = kIrrelevantKeys,
                                     .new_config = &NewConfig,
                                     .read_keys = &ReadKeys,
                                     .write_keys = &WriteKeys,
                                     .is_buffer = &IsGpt2Buffer,
                                     .presets = &Presets,
                                     .gguf = {.architecture = "gpt2",
                                              .activation = ActivationKind::kGeluTanh,
                                              .qkv_bias = GgufUse::kAlways,
                                              .attention_output_bias = GgufUse::kAlways,
                                              .mlp_bias = GgufUse::kAlways}};

}  // namespace strake
