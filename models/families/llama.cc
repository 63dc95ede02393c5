#include "models/families/llama.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/json.h"
#include "models/families/hf_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

ModelConfig NewConfig() {
  ModelConfig config;
  config.family = &kLlamaFamily;
  return config;
}

// Versions of transformers differ in what this key means to Llama.
void RequireWholeRotation(HfKeys& keys) {
  if (keys.Number("partial_rotary_factor", 1, 0, 1) != 1) {
    keys.MustBeAbsent("partial_rotary_factor", "only 1 is supported");
  }
}

// `rope_scaling` (older) and `rope_parameters` (newer) hold the same keys under two names.
void ReadRopeScaling(HfKeys& keys, const nlohmann::json& object, const char* name,
                     ModelConfig* config) {
  RopeConfig* const rope = &*config->attention_kinds[0].rope;
  if (!object.is_object()) {
    return keys.Fail(
        absl::StrCat("\"", name, "\" is ", QuoteJson(object), "; it must be an object"));
  }
  HfKeys inner(object, absl::StrCat(keys.source(), ": \"", name, "\""), /*notices=*/nullptr);
  const char* type_key = inner.Has("rope_type") ? "rope_type" : "type";
  const std::string type = inner.Word(type_key, {"default", "llama3"});
  if (inner.Has("rope_theta")) {
    const double theta = inner.Number("rope_theta", rope->theta, 1, 1e15);
    if (keys.Has("rope_theta") && theta != rope->theta) {
      inner.Fail(absl::StrCat("\"rope_theta\" is ", theta, " but ", rope->theta,
                              " outside it; remove one"));
    }
    rope->theta = theta;
  }
  if (type == "llama3") {
    for (const char* key : {"factor", "low_freq_factor", "high_freq_factor"}) {
      if (!inner.Has(key)) inner.Fail(absl::StrCat("\"", key, "\" is missing for llama3 scaling"));
    }
    RopeWavelengthScaling scaling;
    scaling.factor = inner.Number("factor", 8, 1, 1e6);
    scaling.low_frequency_factor = inner.Number("low_freq_factor", 1, 1e-6, 1e6);
    scaling.high_frequency_factor = inner.Number("high_freq_factor", 4, 1e-6, 1e6);
    // transformers prefers the outer one.
    constexpr char kOriginal[] = "original_max_position_embeddings";
    const int64_t outer =
        keys.Size(kOriginal, inner.Has(kOriginal) ? inner.Size(kOriginal) : config->max_positions);
    scaling.original_positions = inner.Size(kOriginal, outer);
    if (scaling.original_positions != outer) {
      inner.Fail(absl::StrCat("\"", kOriginal, "\" is ", scaling.original_positions, " but ", outer,
                              " outside it; remove one"));
    }
    if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
      inner.Fail("\"high_freq_factor\" must be larger than \"low_freq_factor\"");
    }
    rope->scaling = scaling;
  }
  RequireWholeRotation(inner);
  if (!inner.status().ok()) {
    // Its message names the file already.
    keys.Fail(inner.status().message().substr(keys.source().size() + 2));
  }
}

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  config->vocab_size = keys.Size("vocab_size");
  config->max_positions = keys.Size("max_position_embeddings", 2048);
  config->hidden_size = keys.Size("hidden_size");
  config->num_layers = keys.Size("num_hidden_layers");
  config->num_heads = keys.Size("num_attention_heads");
  config->num_kv_heads = keys.Size("num_key_value_heads", config->num_heads);
  config->intermediate_size = keys.Size("intermediate_size");
  if (!keys.Has("head_dim") && config->hidden_size % config->num_heads != 0) {
    keys.Fail(absl::StrCat("\"hidden_size\" ", config->hidden_size,
                           " is not a multiple of \"num_attention_heads\" ", config->num_heads,
                           ", and there is no \"head_dim\""));
  }
  config->head_dim =
      keys.Size("head_dim", std::max<int64_t>(1, config->hidden_size / config->num_heads));
  config->norm_eps = keys.Number("rms_norm_eps", 1e-6, 0, 1);
  config->initializer_range = keys.Number("initializer_range", 0.02, 0, 100);
  config->tie_word_embeddings = keys.Bool("tie_word_embeddings", false);
  config->attention_kinds[0].rope->theta = keys.Number("rope_theta", 10000, 1, 1e15);
  std::vector<const char*> ropes;
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (keys.Has(name) && keys.At(name) != nlohmann::json::object()) ropes.push_back(name);
  }
  if (ropes.size() == 2) {
    keys.Fail("both \"rope_scaling\" and \"rope_parameters\" are given; keep one");
  }
  for (const char* name : ropes) ReadRopeScaling(keys, keys.At(name), name, config);
  RequireWholeRotation(keys);
  keys.Word("hidden_act", {"silu", "swish"});
  config->qkv_bias = config->attention_output_bias = keys.Bool("attention_bias", false);
  config->mlp_bias = keys.Bool("mlp_bias", false);
  keys.NoteDropout({"attention_dropout"}, 0);
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  (*json)["max_position_embeddings"] = config.max_positions;
  (*json)["hidden_size"] = config.hidden_size;
  (*json)["intermediate_size"] = config.intermediate_size;
  (*json)["num_hidden_layers"] = config.num_layers;
  (*json)["num_attention_heads"] = config.num_heads;
  (*json)["num_key_value_heads"] = config.num_kv_heads;
  (*json)["head_dim"] = config.head_dim;
  (*json)["hidden_act"] = "silu";
  (*json)["rms_norm_eps"] = config.norm_eps;
  (*json)["attention_bias"] = config.qkv_bias;
  (*json)["mlp_bias"] = config.mlp_bias;
  (*json)["rope_theta"] = config.attention_kinds[0].rope->theta;
  if (const auto* scaling =
          std::get_if<RopeWavelengthScaling>(&config.attention_kinds[0].rope->scaling)) {
    (*json)["rope_scaling"] = {{"rope_type", "llama3"},
                               {"factor", scaling->factor},
                               {"low_freq_factor", scaling->low_frequency_factor},
                               {"high_freq_factor", scaling->high_frequency_factor},
                               {"original_max_position_embeddings", scaling->original_positions}};
  }
}

// RoPE's frequencies.
bool IsBuffer(absl::string_view name, const Shape& /*shape*/) {
  return name == "rotary_emb.inv_freq" || absl::EndsWith(name, ".rotary_emb.inv_freq");
}

ModelConfig Preset(int64_t vocab, int64_t positions, int64_t layers, int64_t hidden, int64_t heads,
                   int64_t kv_heads, int64_t intermediate, bool tied) {
  ModelConfig config = NewConfig();
  config.vocab_size = vocab;
  config.max_positions = positions;
  config.num_layers = layers;
  config.hidden_size = hidden;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = hidden / heads;
  config.intermediate_size = intermediate;
  config.tie_word_embeddings = tied;
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() {
  ModelConfig llama3 = Preset(128256, 8192, 32, 4096, 32, 8, 14336, false);
  llama3.attention_kinds[0].rope->theta = 500000;
  ModelConfig llama32 = Preset(128256, 131072, 16, 2048, 32, 8, 8192, true);
  llama32.attention_kinds[0].rope->theta = 500000;
  llama32.attention_kinds[0].rope->scaling = RopeWavelengthScaling{32, 1, 4, 8192};
  return {{"llama-tiny", Preset(256, 256, 4, 128, 4, 2, 384, true)},
          {"llama-mini", Preset(256, 512, 6, 384, 6, 2, 1024, true)},
          {"llama-100m", Preset(32000, 2048, 12, 768, 12, 4, 2048, true)},
          {"llama-3-8b", llama3},
          {"llama-3.2-1b", llama32}};
}

}  // namespace

constexpr ModelFamily kLlamaFamily = {
    .model_type = "llama",
    .display_name = "Llama",
    .architecture = "LlamaForCausalLM",
    .base_architecture = "LlamaModel",
    .tensors = {.token_embedding = "model.embed_tokens",
                .attention_norm = "model.layers.$0.input_layernorm",
                .query = "model.layers.$0.self_attn.q_proj",
                .key = "model.layers.$0.self_attn.k_proj",
                .value = "model.layers.$0.self_attn.v_proj",
                .attention_output = "model.layers.$0.self_attn.o_proj",
                .mlp_norm = "model.layers.$0.post_attention_layernorm",
                .gate = "model.layers.$0.mlp.gate_proj",
                .up = "model.layers.$0.mlp.up_proj",
                .down = "model.layers.$0.mlp.down_proj",
                .final_norm = "model.norm",
                .head = "lm_head",
                .transposed = true,
                .optional_prefix = "model."},
    .new_config = &NewConfig,
    .read_keys = &ReadKeys,
    .write_keys = &WriteKeys,
    .is_buffer = &IsBuffer,
    .presets = &Presets};

}  // namespace strake
