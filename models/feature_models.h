// For tests: models with the features of a ModelConfig in combinations that no family need have.
#ifndef STRAKE_MODELS_FEATURE_MODELS_H_
#define STRAKE_MODELS_FEATURE_MODELS_H_

#include <vector>

#include "models/families/family.h"
#include "models/model_config.h"

namespace strake::testing {

// A family with a name for every tensor, whatever the features.
const ModelFamily& AnyFamily();

// Models of at least two layers with the sizes of `base`, such that every two values of two
// features occur together in one of them. Windows are of 2 and 3 tokens.
std::vector<ModelConfig> FeatureModels(const ModelConfig& base);

}  // namespace strake::testing

#endif  // STRAKE_MODELS_FEATURE_MODELS_H_
