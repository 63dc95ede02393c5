// Gemma 2: norms before and after each half with weights 1 + w, GeGLU, soft caps, a window on every
// other layer (Gemma team, "Gemma 2", 2024, section 2).
#ifndef STRAKE_MODELS_FAMILIES_GEMMA2_H_
#define STRAKE_MODELS_FAMILIES_GEMMA2_H_

#include <cstdint>

#include "models/families/family.h"
#include "models/families/hf_keys.h"
#include "models/families/llama_keys.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

extern const ModelFamily kGemma2Family;

// What Gemma families from the second on share.
ModelConfig NewGemmaConfig(const ModelFamily* family);
void ReadGemmaKeys(HfKeys& keys, const LlamaKeys& names, ModelConfig* config);
void WriteGemmaKeys(const ModelConfig& config, const LlamaKeys& names,
                    nlohmann::ordered_json* json);
// The embeddings' and scores' scales follow from sizes.
ModelConfig WithGemmaSizes(ModelConfig config, const LlamaSizes& sizes, int64_t score_dim);
constexpr LlamaKeys GemmaKeys(int64_t default_max_positions) {
  return {.default_max_positions = default_max_positions,
          .default_kv_heads = 4,
          .default_head_dim = 256,
          .activation = "hidden_activation",
          .default_activation = "gelu_pytorch_tanh",
          .default_tied = true};
}
constexpr TensorNames GemmaTensors() {
  TensorNames names = kLlamaTensors;
  names.attention_post_norm = "model.layers.$0.post_attention_layernorm";
  names.mlp_norm = "model.layers.$0.pre_feedforward_layernorm";
  names.mlp_post_norm = "model.layers.$0.post_feedforward_layernorm";
  return names;
}
inline constexpr IrrelevantKey kGemmaIrrelevantKeys[] = {
    {"hidden_act", "transformers reads \"hidden_activation\""}};

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GEMMA2_H_
