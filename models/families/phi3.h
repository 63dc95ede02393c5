// Phi-3: Llama with fused tensors and RoPE on a part of each head (Abdin et al., "Phi-3 Technical
// Report", 2024, section 2).
#ifndef STRAKE_MODELS_FAMILIES_PHI3_H_
#define STRAKE_MODELS_FAMILIES_PHI3_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kPhi3Family;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_PHI3_H_
