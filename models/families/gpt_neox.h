// GPT-NeoX and Pythia: LayerNorm, a parallel residual, RoPE on a quarter of each head (Black et
// al., "GPT-NeoX-20B", 2022, section 2.1).
#ifndef STRAKE_MODELS_FAMILIES_GPT_NEOX_H_
#define STRAKE_MODELS_FAMILIES_GPT_NEOX_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kGptNeoxFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GPT_NEOX_H_
