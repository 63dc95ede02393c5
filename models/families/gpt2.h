// GPT-2: learned positions, LayerNorm, GELU, biases (Radford et al., "Language Models are
// Unsupervised Multitask Learners", 2019, section 2.3).
#ifndef STRAKE_MODELS_FAMILIES_GPT2_H_
#define STRAKE_MODELS_FAMILIES_GPT2_H_

#include "absl/strings/string_view.h"
#include "core/tensor/tensor.h"
#include "models/families/family.h"
#include "models/families/hf_keys.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

extern const ModelFamily kGpt2Family;

// What families derived from GPT-2 share. Keys: all but those of key/value heads.
ModelConfig NewGpt2Config(const ModelFamily* family);
void ReadGpt2Keys(HfKeys& keys, const char* default_activation, ModelConfig* config);
void WriteGpt2Keys(const ModelConfig& config, nlohmann::ordered_json* json);
bool IsGpt2Buffer(absl::string_view name, const Shape& shape);
inline constexpr TensorNames kGpt2Tensors = {.token_embedding = "transformer.wte",
                                             .position_embedding = "transformer.wpe",
                                             .attention_norm = "transformer.h.$0.ln_1",
                                             .query = "transformer.h.$0.attn.c_attn",
                                             .key = "transformer.h.$0.attn.c_attn",
                                             .value = "transformer.h.$0.attn.c_attn",
                                             .attention_output = "transformer.h.$0.attn.c_proj",
                                             .mlp_norm = "transformer.h.$0.ln_2",
                                             .up = "transformer.h.$0.mlp.c_fc",
                                             .down = "transformer.h.$0.mlp.c_proj",
                                             .final_norm = "transformer.ln_f",
                                             .head = "lm_head",
                                             .transposed = false,
                                             .optional_prefix = "transformer."};

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GPT2_H_
