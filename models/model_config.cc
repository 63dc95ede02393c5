#include "models/model_config.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using Json = nlohmann::json;

std::string ToString(const Json& value) {
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

// Typed, checked access to the keys of one JSON object. The first error sticks; later reads return
// defaults, so that callers read all keys and look at status() once.
class HfKeys {
 public:
  HfKeys(const Json& object, std::string source) : object_(object), source_(std::move(source)) {}

  const absl::Status& status() const { return status_; }
  const std::string& source() const { return source_; }

  bool Has(const char* key) const {
    const auto it = object_.find(key);
    return it != object_.end() && !it->is_null();
  }
  const Json& At(const char* key) const { return object_.at(key); }

  void Fail(absl::string_view message) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(source_, ": ", message));
  }

  // A size: an integer from 1 to 2^40. Without a default the key is required.
  int64_t Size(const char* key, std::optional<int64_t> fallback = std::nullopt) {
    constexpr int64_t kMax = int64_t{1} << 40;
    if (!Has(key)) {
      if (!fallback.has_value()) Fail(absl::StrCat("\"", key, "\" is missing; sizes are required"));
      return fallback.value_or(1);
    }
    const Json& value = At(key);
    const bool integer = value.is_number_integer() &&
                         !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{kMax});
    if (!integer || value.get<int64_t>() < 1 || value.get<int64_t>() > kMax) {
      Fail(absl::StrCat("\"", key, "\" is ", ToString(value), "; it must be an integer from 1 to ",
                        kMax));
      return 1;
    }
    return value.get<int64_t>();
  }

  // A finite number in [min, max].
  double Number(const char* key, double fallback, double min, double max) {
    if (!Has(key)) return fallback;
    const Json& value = At(key);
    if (!value.is_number() || !(value.get<double>() >= min && value.get<double>() <= max)) {
      Fail(absl::StrCat("\"", key, "\" is ", ToString(value), "; it must be a number from ", min,
                        " to ", max));
      return fallback;
    }
    return value.get<double>();
  }

  bool Bool(const char* key, bool fallback) {
    if (!Has(key)) return fallback;
    if (!At(key).is_boolean()) {
      Fail(absl::StrCat("\"", key, "\" is ", ToString(At(key)), "; it must be true or false"));
      return fallback;
    }
    return At(key).get<bool>();
  }

  // The value must be one of `supported`, the first of which is transformers' default.
  std::string Word(const char* key, const std::vector<std::string>& supported) {
    if (!Has(key)) return supported.front();
    for (const std::string& word : supported) {
      if (At(key) == word) return word;
    }
    Fail(absl::StrCat("\"", key, "\" is ", ToString(At(key)), "; supported: \"",
                      absl::StrJoin(supported, "\", \""), "\""));
    return supported.front();
  }

  void MustBe(const char* key, bool required) {
    if (Bool(key, required) != required) {
      Fail(absl::StrCat("\"", key, "\": ", required ? "false" : "true", " is not supported"));
    }
  }

 private:
  const Json& object_;
  const std::string source_;
  absl::Status status_;
};

void NoteDropout(HfKeys& keys, const std::vector<const char*>& names, double fallback,
                 std::vector<std::string>* notices) {
  std::vector<std::string> found;
  for (const char* name : names) {
    const double value = keys.Number(name, fallback, 0, 1);
    if (value != 0) found.push_back(absl::StrCat(name, "=", value));
  }
  if (!found.empty() && notices != nullptr) {
    notices->push_back(
        absl::StrCat(keys.source(), ": dropout is not applied (", absl::StrJoin(found, ", "), ")"));
  }
}

ModelConfig ParseGpt2(HfKeys& keys, std::vector<std::string>* notices) {
  ModelConfig config;
  config.family = ModelFamily::kGpt2;
  config.vocab_size = keys.Size("vocab_size");
  config.max_positions = keys.Size("n_positions");
  config.hidden_size = keys.Size("n_embd");
  config.num_layers = keys.Size("n_layer");
  config.num_heads = keys.Size("n_head");
  config.num_kv_heads = config.num_heads;
  config.head_dim = config.hidden_size / config.num_heads;
  config.intermediate_size = keys.Size("n_inner", 4 * config.hidden_size);
  config.norm_eps = keys.Number("layer_norm_epsilon", 1e-5, 0, 1);
  config.initializer_range = keys.Number("initializer_range", 0.02, 0, 100);
  config.tie_word_embeddings = keys.Bool("tie_word_embeddings", true);
  if (keys.Size("n_ctx", config.max_positions) != config.max_positions) {
    keys.Fail(absl::StrCat("\"n_ctx\" is ", ToString(keys.At("n_ctx")), " but \"n_positions\" is ",
                           config.max_positions));
  }
  keys.Word("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  keys.MustBe("scale_attn_weights", true);
  keys.MustBe("scale_attn_by_inverse_layer_idx", false);
  keys.MustBe("add_cross_attention", false);
  NoteDropout(keys, {"attn_pdrop", "embd_pdrop", "resid_pdrop"}, 0.1, notices);
  return config;
}

// `rope_scaling` (older) and `rope_parameters` (newer) hold the same keys under two names.
void ParseRopeScaling(HfKeys& keys, const Json& object, const char* name, RopeConfig* rope) {
  if (!object.is_object()) {
    return keys.Fail(
        absl::StrCat("\"", name, "\" is ", ToString(object), "; it must be an object"));
  }
  HfKeys inner(object, absl::StrCat(keys.source(), ": \"", name, "\""));
  const char* type_key = inner.Has("rope_type") ? "rope_type" : "type";
  const std::string type = inner.Word(type_key, {"default", "llama3"});
  if (inner.Has("rope_theta")) {
    const double theta = inner.Number("rope_theta", rope->theta, 1, 1e15);
    if (keys.Has("rope_theta") && theta != rope->theta) {
      inner.Fail(absl::StrCat("\"rope_theta\" is ", theta, " but ", rope->theta, " outside it"));
    }
    rope->theta = theta;
  }
  if (type == "llama3") {
    for (const char* key :
         {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!inner.Has(key)) inner.Fail(absl::StrCat("\"", key, "\" is missing for llama3 scaling"));
    }
    Llama3RopeScaling scaling;
    scaling.factor = inner.Number("factor", 8, 1, 1e6);
    scaling.low_frequency_factor = inner.Number("low_freq_factor", 1, 1e-6, 1e6);
    scaling.high_frequency_factor = inner.Number("high_freq_factor", 4, 1e-6, 1e6);
    scaling.original_positions = inner.Size("original_max_position_embeddings", 8192);
    if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
      inner.Fail("\"high_freq_factor\" must be larger than \"low_freq_factor\"");
    }
    rope->llama3 = scaling;
  }
  if (!inner.status().ok()) {
    // Its message names the file already.
    keys.Fail(inner.status().message().substr(keys.source().size() + 2));
  }
}

ModelConfig ParseLlama(HfKeys& keys, std::vector<std::string>* notices) {
  ModelConfig config;
  config.family = ModelFamily::kLlama;
  config.vocab_size = keys.Size("vocab_size");
  config.max_positions = keys.Size("max_position_embeddings", 2048);
  config.hidden_size = keys.Size("hidden_size");
  config.num_layers = keys.Size("num_hidden_layers");
  config.num_heads = keys.Size("num_attention_heads");
  config.num_kv_heads = keys.Size("num_key_value_heads", config.num_heads);
  config.intermediate_size = keys.Size("intermediate_size");
  if (!keys.Has("head_dim") && config.hidden_size % config.num_heads != 0) {
    keys.Fail(absl::StrCat("\"hidden_size\" ", config.hidden_size,
                           " is not a multiple of \"num_attention_heads\" ", config.num_heads,
                           ", and there is no \"head_dim\""));
  }
  config.head_dim =
      keys.Size("head_dim", std::max<int64_t>(1, config.hidden_size / config.num_heads));
  config.norm_eps = keys.Number("rms_norm_eps", 1e-6, 0, 1);
  config.initializer_range = keys.Number("initializer_range", 0.02, 0, 100);
  config.tie_word_embeddings = keys.Bool("tie_word_embeddings", false);
  config.rope.theta = keys.Number("rope_theta", 10000, 1, 1e15);
  if (keys.Has("rope_scaling") && keys.Has("rope_parameters")) {
    keys.Fail("both \"rope_scaling\" and \"rope_parameters\" are given; keep one");
  }
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (keys.Has(name)) ParseRopeScaling(keys, keys.At(name), name, &config.rope);
  }
  keys.Word("hidden_act", {"silu", "swish"});
  keys.MustBe("attention_bias", false);
  keys.MustBe("mlp_bias", false);
  NoteDropout(keys, {"attention_dropout"}, 0, notices);
  return config;
}

ModelConfig Gpt2(int64_t vocab, int64_t positions, int64_t layers, int64_t hidden, int64_t heads) {
  ModelConfig config;
  config.family = ModelFamily::kGpt2;
  config.vocab_size = vocab;
  config.max_positions = positions;
  config.num_layers = layers;
  config.hidden_size = hidden;
  config.num_heads = config.num_kv_heads = heads;
  config.head_dim = hidden / heads;
  config.intermediate_size = 4 * hidden;
  return config;
}

ModelConfig Llama(int64_t vocab, int64_t positions, int64_t layers, int64_t hidden, int64_t heads,
                  int64_t kv_heads, int64_t intermediate, bool tied) {
  ModelConfig config = Gpt2(vocab, positions, layers, hidden, heads);
  config.family = ModelFamily::kLlama;
  config.num_kv_heads = kv_heads;
  config.intermediate_size = intermediate;
  config.tie_word_embeddings = tied;
  return config;
}

const std::map<std::string, ModelConfig>& Presets() {
  static const auto* presets = [] {
    auto* all = new std::map<std::string, ModelConfig>();
    (*all)["gpt2-tiny"] = Gpt2(256, 256, 4, 128, 4);
    (*all)["gpt2-mini"] = Gpt2(256, 512, 6, 384, 6);
    (*all)["gpt2-124m"] = Gpt2(50257, 1024, 12, 768, 12);
    (*all)["gpt2-355m"] = Gpt2(50257, 1024, 24, 1024, 16);
    (*all)["gpt2-774m"] = Gpt2(50257, 1024, 36, 1280, 20);
    (*all)["gpt2-1558m"] = Gpt2(50257, 1024, 48, 1600, 25);
    (*all)["llama-tiny"] = Llama(256, 256, 4, 128, 4, 2, 384, true);
    (*all)["llama-mini"] = Llama(256, 512, 6, 384, 6, 2, 1024, true);
    (*all)["llama-100m"] = Llama(32000, 2048, 12, 768, 12, 4, 2048, true);
    ModelConfig llama3 = Llama(128256, 8192, 32, 4096, 32, 8, 14336, false);
    llama3.rope.theta = 500000;
    (*all)["llama-3-8b"] = llama3;
    ModelConfig llama32 = Llama(128256, 131072, 16, 2048, 32, 8, 8192, true);
    llama32.rope.theta = 500000;
    llama32.rope.llama3 = Llama3RopeScaling{32, 1, 4, 8192};
    (*all)["llama-3.2-1b"] = llama32;
    return all;
  }();
  return *presets;
}

// Elements of one block's matrices, biases and norms.
double BlockParameters(const ModelConfig& c, bool matrices_only) {
  const double hidden = c.hidden_size, query = double(c.num_heads) * c.head_dim,
               qkv = query + 2.0 * c.num_kv_heads * c.head_dim;
  const bool gpt2 = c.family == ModelFamily::kGpt2;
  const double up = (gpt2 ? 1.0 : 2.0) * c.intermediate_size;
  const double matrices = hidden * (qkv + query + up + c.intermediate_size);
  if (matrices_only) return matrices;
  return matrices + 2 * hidden + (gpt2 ? 4 * hidden + qkv + up : 0);
}

double CountParameters(const ModelConfig& c) {
  const bool gpt2 = c.family == ModelFamily::kGpt2;
  const double embedding = double(c.vocab_size) * c.hidden_size;
  return embedding * (c.tie_word_embeddings ? 1 : 2) +
         (gpt2 ? double(c.max_positions) * c.hidden_size : 0) +
         c.num_layers * BlockParameters(c, false) + c.hidden_size * (gpt2 ? 2.0 : 1.0);
}

}  // namespace

std::vector<std::string> ModelPresetNames() {
  std::vector<std::string> names;
  for (const auto& [name, config] : Presets()) names.push_back(name);
  return names;
}

absl::StatusOr<ModelConfig> ModelPreset(absl::string_view name) {
  const auto it = Presets().find(std::string(name));
  if (it != Presets().end()) return it->second;
  return absl::NotFoundError(absl::StrCat("no model preset \"", name, "\"; there are ",
                                          absl::StrJoin(ModelPresetNames(), ", ")));
}

absl::StatusOr<ModelConfig> ParseHfConfig(absl::string_view json, absl::string_view source,
                                          std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const Json object, ParseJson(json, source));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": not a JSON object"));
  }
  HfKeys keys(object, std::string(source));
  if (!keys.Has("model_type")) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": \"model_type\" is missing; it must be \"gpt2\" or \"llama\""));
  }
  const bool gpt2 = keys.Word("model_type", {"gpt2", "llama"}) == "gpt2";
  STRAKE_RETURN_IF_ERROR(keys.status());
  if (keys.Has("architectures")) {
    const std::string wanted = gpt2 ? "GPT2LMHeadModel" : "LlamaForCausalLM";
    const Json& given = keys.At("architectures");
    if (given != Json::array({wanted}) &&
        given != Json::array({gpt2 ? "GPT2Model" : "LlamaModel"})) {
      keys.Fail(absl::StrCat("\"architectures\" is ", ToString(given), "; supported: [\"", wanted,
                             "\"]"));
    }
  }
  if (keys.Has("quantization_config")) keys.Fail("\"quantization_config\" is not supported");
  ModelConfig config = gpt2 ? ParseGpt2(keys, notices) : ParseLlama(keys, notices);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (keys.Has(key)) config.token_ids.emplace_back(key, ToString(keys.At(key)));
  }
  STRAKE_RETURN_IF_ERROR(keys.status());
  if (const absl::Status status = ValidateModelConfig(config); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", status.message()));
  }
  return config;
}

absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& path,
                                         std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseHfConfig(text, path, notices);
}

absl::StatusOr<ModelConfig> FindModelConfig(const std::string& model,
                                            std::vector<std::string>* notices) {
  const bool is_path = model.find('/') != std::string::npos || model.ends_with(".json");
  return is_path ? ReadHfConfig(model, notices) : ModelPreset(model);
}

absl::Status CheckSeqLen(const ModelConfig& config, int64_t seq_len) {
  if (config.family != ModelFamily::kGpt2 || seq_len <= config.max_positions) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("the sequence length ", seq_len,
                                                 " is above the model's ", config.max_positions,
                                                 " positions"));
}

std::string ToHfConfig(const ModelConfig& c, DType dtype) {
  nlohmann::ordered_json json;
  const bool gpt2 = c.family == ModelFamily::kGpt2;
  json["architectures"] = {gpt2 ? "GPT2LMHeadModel" : "LlamaForCausalLM"};
  json["model_type"] = gpt2 ? "gpt2" : "llama";
  json["torch_dtype"] = dtype == DType::kBf16 ? "bfloat16" : "float32";
  json["vocab_size"] = c.vocab_size;
  if (gpt2) {
    json["n_positions"] = c.max_positions;
    json["n_embd"] = c.hidden_size;
    json["n_layer"] = c.num_layers;
    json["n_head"] = c.num_heads;
    json["n_inner"] = c.intermediate_size;
    json["activation_function"] = "gelu_new";
    json["layer_norm_epsilon"] = c.norm_eps;
    for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) json[key] = 0.0;
  } else {
    json["max_position_embeddings"] = c.max_positions;
    json["hidden_size"] = c.hidden_size;
    json["intermediate_size"] = c.intermediate_size;
    json["num_hidden_layers"] = c.num_layers;
    json["num_attention_heads"] = c.num_heads;
    json["num_key_value_heads"] = c.num_kv_heads;
    json["head_dim"] = c.head_dim;
    json["hidden_act"] = "silu";
    json["rms_norm_eps"] = c.norm_eps;
    json["attention_bias"] = false;
    json["mlp_bias"] = false;
    json["rope_theta"] = c.rope.theta;
    if (c.rope.llama3.has_value()) {
      json["rope_scaling"] = {
          {"rope_type", "llama3"},
          {"factor", c.rope.llama3->factor},
          {"low_freq_factor", c.rope.llama3->low_frequency_factor},
          {"high_freq_factor", c.rope.llama3->high_frequency_factor},
          {"original_max_position_embeddings", c.rope.llama3->original_positions}};
    }
  }
  json["initializer_range"] = c.initializer_range;
  json["tie_word_embeddings"] = c.tie_word_embeddings;
  // transformers' defaults name tokens of its own vocabularies: say so where there are none.
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  for (const auto& [key, text] : c.token_ids) json[key] = nlohmann::ordered_json::parse(text);
  return json.dump(2) + "\n";
}

absl::Status ValidateModelConfig(const ModelConfig& c) {
  constexpr int64_t kMaxSize = int64_t{1} << 31;
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, int64_t>>{
           {"vocabulary", c.vocab_size},
           {"number of positions", c.max_positions},
           {"hidden size", c.hidden_size},
           {"number of layers", c.num_layers},
           {"number of heads", c.num_heads},
           {"number of key/value heads", c.num_kv_heads},
           {"head size", c.head_dim},
           {"intermediate size", c.intermediate_size}}) {
    if (value < 1 || value >= kMaxSize) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " ", value, " is not in [1, ", kMaxSize, ")"));
    }
  }
  if (c.num_heads % c.num_kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the number of heads ", c.num_heads,
                     " is not a multiple of the number of key/value heads ", c.num_kv_heads));
  }
  if (c.family == ModelFamily::kGpt2 && c.num_heads * c.head_dim != c.hidden_size) {
    return absl::InvalidArgumentError(absl::StrCat("the hidden size ", c.hidden_size,
                                                   " is not a multiple of the number of heads ",
                                                   c.num_heads));
  }
  if (c.family == ModelFamily::kLlama && c.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the head size ", c.head_dim, " is odd; RoPE rotates pairs"));
  }
  if (CountParameters(c) > 0x1p50) {
    return absl::InvalidArgumentError(absl::StrCat("the sizes make ", CountParameters(c),
                                                   " parameters; at most 2^50 are handled"));
  }
  // Each layer is an object, even in a plan that allocates no weights.
  constexpr int64_t kMaxLayers = int64_t{1} << 14;
  if (c.num_layers > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("number of layers ", c.num_layers, " is above ", kMaxLayers));
  }
  return absl::OkStatus();
}

int64_t NumParameters(const ModelConfig& config) {
  return static_cast<int64_t>(CountParameters(config));
}

double TrainingFlopsPerToken(const ModelConfig& c, int64_t seq_len) {
  const double positions =
      c.family == ModelFamily::kGpt2 ? double(c.max_positions) * c.hidden_size : 0;
  const double input = c.tie_word_embeddings ? 0 : double(c.vocab_size) * c.hidden_size;
  return 6 * (CountParameters(c) - positions - input) +
         6.0 * c.num_layers * c.num_heads * c.head_dim * seq_len;
}

}  // namespace strake
