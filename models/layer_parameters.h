// How the layers of a model declare their parameters: Hugging Face's names, shapes, initial
// weights.
//
// Initial weights are those of GPT-2's paper (section 2.3: residual projections scaled down by the
// number of residual layers) and of transformers' Llama: normal, biases 0, norm weights 1.
#ifndef STRAKE_MODELS_LAYER_PARAMETERS_H_
#define STRAKE_MODELS_LAYER_PARAMETERS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "models/model_config.h"

namespace strake {

// "transformer.h.3." or "model.layers.3.".
std::string LayerName(const ModelConfig& config, int64_t index);

// Standard deviation of the projections into the residual stream: GPT-2 divides by sqrt(2 layers).
double ResidualStddev(const ModelConfig& config);

// Adds `name`.weight [C], and for GPT-2 `name`.bias [C].
Norm AddNorm(const ModelConfig& config, ParameterArena* arena, const std::string& name);

// Adds a matrix [in_features, sum of the parts' widths] of one or more fused parts (name, columns),
// and for GPT-2 a bias. Llama's files hold each part transposed.
Linear AddLinear(const ModelConfig& config, ParameterArena* arena,
                 const std::vector<std::pair<std::string, int64_t>>& parts, int64_t in_features,
                 double stddev);

}  // namespace strake

#endif  // STRAKE_MODELS_LAYER_PARAMETERS_H_
