// OLMo 3: OLMo 2 with a window on three of four layers, and RoPE by type of layer (OLMo team, "Olmo
// 3", 2025, section 3).
#ifndef STRAKE_MODELS_FAMILIES_OLMO3_H_
#define STRAKE_MODELS_FAMILIES_OLMO3_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kOlmo3Family;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_OLMO3_H_
