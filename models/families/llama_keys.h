// The keys of `config.json` that families derived from Llama share, each with transformers' default
// where a family does not say otherwise.
#ifndef STRAKE_MODELS_FAMILIES_LLAMA_KEYS_H_
#define STRAKE_MODELS_FAMILIES_LLAMA_KEYS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/tensor/tensor.h"
#include "models/families/family.h"
#include "models/families/hf_keys.h"
#include "models/families/rope_keys.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

// What differs between families in the keys that all of them have.
struct LlamaKeys {
  int64_t default_max_positions = 2048;
  int64_t default_kv_heads = 0;  // 0, and where the key is null: as many as query heads
  int64_t default_head_dim = 0;  // 0: hidden_size / num_attention_heads
  bool fixed_head_dim = false;   // transformers always takes hidden_size / num_attention_heads
  const char* norm_eps = "rms_norm_eps";
  double default_norm_eps = 1e-6;
  const char* activation = "hidden_act";
  const char* default_activation = "silu";
  bool default_tied = false;
};

// Reads sizes, the norms' epsilon, the activation, initializer_range and tie_word_embeddings, and
// notes dropout.
void ReadLlamaKeys(HfKeys& keys, const LlamaKeys& names, ModelConfig* config);
void WriteLlamaKeys(const ModelConfig& config, const LlamaKeys& names,
                    nlohmann::ordered_json* json);

RopeSizes RopeSizesOf(const ModelConfig& config);

// Names of activations in `config.json`; the first of a kind is written.
ActivationKind ReadActivation(HfKeys& keys, const char* key, const char* fallback);
const char* HfActivationName(ActivationKind kind);

// Tensors are named as in Llama's files.
inline constexpr TensorNames kLlamaTensors = {
    .token_embedding = "model.embed_tokens",
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
    .optional_prefix = "model."};
// RoPE's frequencies, which older files hold.
bool IsRopeBuffer(absl::string_view name, const Shape& shape);

// Gives the model the attention of each layer.
void SetLayers(const std::vector<AttentionKind>& layers, ModelConfig* config);
// Gives each layer a window or none, and the RoPE of its type.
void SetLayers(const std::vector<bool>& windowed, int64_t window, const RopeByLayerType& ropes,
               ModelConfig* config);
// The number of layers to make a list of: no more than models may have.
int64_t NumListedLayers(const ModelConfig& config);
// Returns false for layers interval - 1, 2 interval - 1, ..., and true for the others.
std::vector<bool> AllButEvery(int64_t interval, const ModelConfig& config);

// Returns for each layer whether `layer_types` gives it a window; `fallback` without that key.
std::vector<bool> ReadWindowedLayers(HfKeys& keys, const ModelConfig& config,
                                     std::vector<bool> fallback);
// Fails where a layer has a window and `window` is 0.
void CheckLayerWindows(HfKeys& keys, const std::vector<bool>& windowed, int64_t window);
// Writes `layer_types`.
void WriteLayerTypes(const ModelConfig& config, nlohmann::ordered_json* json);
// The RoPEs of the model's layers; those of `fallback` for a type that no layer has.
RopeByLayerType RopesOf(const ModelConfig& config, RopeByLayerType fallback);
// The windows' size, which is the same in all layers that have one; 0: none has.
int64_t WindowOf(const ModelConfig& config);

// The sizes of a preset.
struct LlamaSizes {
  int64_t vocab, positions, layers, hidden, heads, kv_heads, head_dim, intermediate;
};
ModelConfig WithSizes(ModelConfig config, const LlamaSizes& sizes);

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_LLAMA_KEYS_H_
