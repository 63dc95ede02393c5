// Gemma 3, its text models: Gemma 2 with RMSNorms of each head's queries and keys instead of soft
// caps, a window on five of six layers, and RoPE by type of layer (Gemma team, "Gemma 3 Technical
// Report", 2025, section 2).
#ifndef STRAKE_MODELS_FAMILIES_GEMMA3_TEXT_H_
#define STRAKE_MODELS_FAMILIES_GEMMA3_TEXT_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kGemma3TextFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GEMMA3_TEXT_H_
