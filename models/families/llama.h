// Llama: RoPE, RMSNorm, SwiGLU, no biases, grouped key/value heads (Touvron et al., "LLaMA", 2023,
// section 2.2; Meta, "The Llama 3 Herd of Models", 2024, section 3.2).
#ifndef STRAKE_MODELS_FAMILIES_LLAMA_H_
#define STRAKE_MODELS_FAMILIES_LLAMA_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kLlamaFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_LLAMA_H_
