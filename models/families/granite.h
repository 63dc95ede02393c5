// Granite 3: Llama with scales of embeddings, scores, residual branches and logits (IBM,
// "Granite 3.0 Language Models", 2024; the scales are those of Yang et al., "Tensor Programs V",
// 2022).
#ifndef STRAKE_MODELS_FAMILIES_GRANITE_H_
#define STRAKE_MODELS_FAMILIES_GRANITE_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kGraniteFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GRANITE_H_
