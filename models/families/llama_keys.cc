#include "models/families/llama_keys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

constexpr char kWindowed[] = "sliding_attention";
constexpr char kFull[] = "full_attention";

// Several names are one function, computed in several ways.
constexpr std::pair<const char*, ActivationKind> kActivations[] = {
    {"silu", ActivationKind::kSilu},
    {"swish", ActivationKind::kSilu},
    {"gelu", ActivationKind::kGelu},
    {"gelu_python", ActivationKind::kGelu},
    {"gelu_pytorch_tanh", ActivationKind::kGeluTanh},
    {"gelu_new", ActivationKind::kGeluTanh},
    {"gelu_python_tanh", ActivationKind::kGeluTanh},
    {"gelu_fast", ActivationKind::kGeluTanh},
    {"gelu_accurate", ActivationKind::kGeluTanh},
    {"relu", ActivationKind::kRelu}};

// The key is written by versions of transformers that derive it, and by hand.
int64_t ReadHeadDim(HfKeys& keys, const LlamaKeys& names, const ModelConfig& config) {
  const int64_t quotient = std::max<int64_t>(1, config.hidden_size / config.num_heads);
  const bool derived =
      names.fixed_head_dim || (names.default_head_dim == 0 && !keys.Has("head_dim"));
  if (derived && config.hidden_size % config.num_heads != 0) {
    keys.Fail(absl::StrCat("\"hidden_size\" ", config.hidden_size,
                           " is not a multiple of \"num_attention_heads\" ", config.num_heads,
                           names.fixed_head_dim ? "" : ", and there is no \"head_dim\""));
  }
  const int64_t head_dim =
      keys.Size("head_dim", names.default_head_dim == 0 ? quotient : names.default_head_dim);
  if (names.fixed_head_dim && head_dim != quotient) {
    keys.Fail(absl::StrCat("\"head_dim\" is ", head_dim,
                           "; the family's is hidden_size / "
                           "num_attention_heads, ",
                           quotient));
  }
  return head_dim;
}

}  // namespace

void ReadLlamaKeys(HfKeys& keys, const LlamaKeys& names, ModelConfig* config) {
  config->vocab_size = keys.Size("vocab_size");
  config->max_positions = keys.Size("max_position_embeddings", names.default_max_positions);
  config->hidden_size = keys.Size("hidden_size");
  config->num_layers = keys.Size("num_hidden_layers");
  config->num_heads = keys.Size("num_attention_heads");
  const bool as_queries = names.default_kv_heads == 0 || keys.IsNull("num_key_value_heads");
  config->num_kv_heads =
      keys.Size("num_key_value_heads", as_queries ? config->num_heads : names.default_kv_heads);
  config->intermediate_size = keys.Size("intermediate_size");
  config->head_dim = ReadHeadDim(keys, names, *config);
  config->norm_eps = keys.Number(names.norm_eps, names.default_norm_eps, 0, 1);
  config->initializer_range = keys.Number("initializer_range", 0.02, 0, 100);
  config->tie_word_embeddings = keys.Bool("tie_word_embeddings", names.default_tied);
  config->activation = ReadActivation(keys, names.activation, names.default_activation);
  keys.NoteDropout({"attention_dropout"}, 0);
}

void WriteLlamaKeys(const ModelConfig& config, const LlamaKeys& names,
                    nlohmann::ordered_json* json) {
  (*json)["max_position_embeddings"] = config.max_positions;
  (*json)["hidden_size"] = config.hidden_size;
  (*json)["intermediate_size"] = config.intermediate_size;
  (*json)["num_hidden_layers"] = config.num_layers;
  (*json)["num_attention_heads"] = config.num_heads;
  (*json)["num_key_value_heads"] = config.num_kv_heads;
  if (!names.fixed_head_dim) (*json)["head_dim"] = config.head_dim;
  (*json)[names.activation] = HfActivationName(config.activation);
  (*json)[names.norm_eps] = config.norm_eps;
}

RopeSizes RopeSizesOf(const ModelConfig& config) { return {config.head_dim, config.max_positions}; }

ActivationKind ReadActivation(HfKeys& keys, const char* key, const char* fallback) {
  std::vector<std::string> names = {fallback};
  for (const auto& [name, kind] : kActivations) {
    if (name != names.front()) names.push_back(name);
  }
  const std::string word = keys.Word(key, names);
  for (const auto& [name, kind] : kActivations) {
    if (word == name) return kind;
  }
  LOG(FATAL) << "[llama_keys] " << word;
}

const char* HfActivationName(ActivationKind kind) {
  for (const auto& [name, known] : kActivations) {
    if (known == kind) return name;
  }
  LOG(FATAL) << "[llama_keys] activation " << static_cast<int>(kind);
}

bool IsRopeBuffer(absl::string_view name, const Shape& /*shape*/) {
  return name == "rotary_emb.inv_freq" || absl::EndsWith(name, ".rotary_emb.inv_freq");
}

void SetLayers(const std::vector<AttentionKind>& layers, ModelConfig* config) {
  config->attention_kinds.clear();
  config->layer_attention_kinds.clear();
  auto& kinds = config->attention_kinds;
  for (const AttentionKind& kind : layers) {
    auto it = std::find(kinds.begin(), kinds.end(), kind);
    if (it == kinds.end()) it = kinds.insert(it, kind);
    config->layer_attention_kinds.push_back(static_cast<int>(it - kinds.begin()));
  }
  if (kinds.size() == 1) config->layer_attention_kinds.clear();
}

void SetLayers(const std::vector<bool>& windowed, int64_t window, const RopeByLayerType& ropes,
               ModelConfig* config) {
  std::vector<AttentionKind> layers;
  for (const bool has_window : windowed) {
    layers.push_back(has_window ? AttentionKind{window, ropes.windowed}
                                : AttentionKind{0, ropes.full});
  }
  SetLayers(layers, config);
}

int64_t NumListedLayers(const ModelConfig& config) {
  constexpr int64_t kMaxLayers = int64_t{1} << 14;  // ValidateModelConfig() refuses more
  return std::min(config.num_layers, kMaxLayers);
}

std::vector<bool> AllButEvery(int64_t interval, const ModelConfig& config) {
  std::vector<bool> layers;
  for (int64_t layer = 0; layer < NumListedLayers(config); ++layer) {
    layers.push_back((layer + 1) % interval != 0);
  }
  return layers;
}

std::vector<bool> ReadWindowedLayers(HfKeys& keys, const ModelConfig& config,
                                     std::vector<bool> fallback) {
  if (!keys.Has("layer_types")) return fallback;
  const std::vector<std::string> types = keys.Words("layer_types", {kFull, kWindowed});
  if (static_cast<int64_t>(types.size()) != config.num_layers) {
    keys.Fail(absl::StrCat("\"layer_types\" has ", types.size(), " values for ", config.num_layers,
                           " layers"));
    return fallback;
  }
  std::vector<bool> windowed;
  for (const std::string& type : types) windowed.push_back(type == kWindowed);
  return windowed;
}

void CheckLayerWindows(HfKeys& keys, const std::vector<bool>& windowed, int64_t window) {
  if (window == 0 && std::find(windowed.begin(), windowed.end(), true) != windowed.end()) {
    keys.Fail(
        absl::StrCat("layers are of type \"", kWindowed, "\" but no \"sliding_window\" is set"));
  }
}

void WriteLayerTypes(const ModelConfig& config, nlohmann::ordered_json* json) {
  auto types = nlohmann::ordered_json::array();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    types.push_back(config.AttentionOf(layer).window != 0 ? kWindowed : kFull);
  }
  (*json)["layer_types"] = types;
}

RopeByLayerType RopesOf(const ModelConfig& config, RopeByLayerType ropes) {
  for (const AttentionKind& kind : config.attention_kinds) {
    (kind.window != 0 ? ropes.windowed : ropes.full) = kind.rope.value_or(RopeConfig());
  }
  return ropes;
}

int64_t WindowOf(const ModelConfig& config) {
  int64_t window = 0;
  for (const AttentionKind& kind : config.attention_kinds) window = std::max(window, kind.window);
  return window;
}

ModelConfig WithSizes(ModelConfig config, const LlamaSizes& sizes) {
  config.vocab_size = sizes.vocab;
  config.max_positions = sizes.positions;
  config.num_layers = sizes.layers;
  config.hidden_size = sizes.hidden;
  config.num_heads = sizes.heads;
  config.num_kv_heads = sizes.kv_heads;
  config.head_dim = sizes.head_dim;
  config.intermediate_size = sizes.intermediate;
  return config;
}

}  // namespace strake
