// Qwen3: Qwen2 without biases, and with RMSNorms of each head's queries and keys (Yang et al.,
// "Qwen3 Technical Report", 2025, section 2).
#ifndef STRAKE_MODELS_FAMILIES_QWEN3_H_
#define STRAKE_MODELS_FAMILIES_QWEN3_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kQwen3Family;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_QWEN3_H_
