// StableLM: LayerNorm, SwiGLU, RoPE on a quarter of each head (Bellagente et al., "Stable LM 2 1.6B
// Technical Report", 2024, section 2).
#ifndef STRAKE_MODELS_FAMILIES_STABLELM_H_
#define STRAKE_MODELS_FAMILIES_STABLELM_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kStableLmFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_STABLELM_H_
