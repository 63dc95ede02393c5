// Mistral: Llama with a window on all layers (Jiang et al., "Mistral 7B", 2023, section 2).
#ifndef STRAKE_MODELS_FAMILIES_MISTRAL_H_
#define STRAKE_MODELS_FAMILIES_MISTRAL_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kMistralFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_MISTRAL_H_
