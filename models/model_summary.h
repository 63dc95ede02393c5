// ModelSummary: a model's sizes in a line.
#ifndef STRAKE_MODELS_MODEL_SUMMARY_H_
#define STRAKE_MODELS_MODEL_SUMMARY_H_

#include <string>

#include "models/model_config.h"

namespace strake {

// "10.5k parameters, 2 layers of 64, 4 heads, vocabulary 256".
std::string ModelSummary(const ModelConfig& model);

}  // namespace strake

#endif  // STRAKE_MODELS_MODEL_SUMMARY_H_
