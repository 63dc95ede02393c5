// OLMo 2: norms after each half instead of before, and RMSNorms of all queries and keys of a token
// (OLMo team, "2 OLMo 2 Furious", 2025, section 3).
#ifndef STRAKE_MODELS_FAMILIES_OLMO2_H_
#define STRAKE_MODELS_FAMILIES_OLMO2_H_

#include "models/families/family.h"
#include "models/families/llama_keys.h"

namespace strake {

extern const ModelFamily kOlmo2Family;

// What all OLMo families from the second on share.
inline constexpr LlamaKeys kOlmoKeys = {.default_norm_eps = 1e-5};
constexpr TensorNames OlmoTensors() {
  TensorNames names = kLlamaTensors;
  names.attention_norm = names.mlp_norm = nullptr;
  names.attention_post_norm = "model.layers.$0.post_attention_layernorm";
  names.mlp_post_norm = "model.layers.$0.post_feedforward_layernorm";
  names.query_norm = "model.layers.$0.self_attn.q_norm";
  names.key_norm = "model.layers.$0.self_attn.k_norm";
  return names;
}

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_OLMO2_H_
