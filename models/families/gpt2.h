// GPT-2: learned positions, LayerNorm, GELU, biases (Radford et al., "Language Models are
// Unsupervised Multitask Learners", 2019, section 2.3).
#ifndef STRAKE_MODELS_FAMILIES_GPT2_H_
#define STRAKE_MODELS_FAMILIES_GPT2_H_

#include "models/families/family.h"

namespace strake {

extern const ModelFamily kGpt2Family;

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_GPT2_H_
