// GPT-BigCode (SantaCoder, StarCoder): GPT-2 whose query heads share one key/value head (Ben Allal
// et al., "SantaCoder", 2023, section 4).
#ifndef STRAKE_MODELS_FAMILIES_GPT_BIGCODE_H_
#define STRAKE_MODELS_FAMILIES_GPT_BIGCODE_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kGptBigCodeFamily;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GPT_BIGCODE_H_
