// SmolLM3: Llama with layers whose queries and keys are not rotated (Hugging Face, "SmolLM3", 2025;
// Yang et al., "RoPE to NoPE and Back Again", 2025, section 3).
#ifndef STRAKE_MODELS_FAMILIES_SMOLLM3_H_
#define STRAKE_MODELS_FAMILIES_SMOLLM3_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kSmolLm3Family;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_SMOLLM3_H_
