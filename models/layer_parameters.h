// How the layers of a model declare their parameters: Hugging Face's names, shapes, shards, initial
// weights. What the tensor-parallel size does not divide is a CHECK failure here:
// CheckTensorParallel() comes first.
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
#include "core/nn/norm.h"
#include "models/model_config.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// "transformer.h.3." or "model.layers.3.".
std::string LayerName(const ModelConfig& config, int64_t index);

// Standard deviation of the projections into the residual stream: GPT-2 divides by sqrt(2 layers).
double ResidualStddev(const ModelConfig& config);

// How each rank's gradient of a parameter on the residual stream relates to the whole.
ReplicatedGrad ResidualGrad(const TensorParallel& tp);

// Adds `name`.weight [C], and for GPT-2 `name`.bias [C].
Norm AddNorm(const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
             const std::string& name);

// Adds the rank's part of a matrix [in_features, sum of the parts' widths] of one or more fused
// parts (name, columns), cut by `segments`, and for GPT-2 of a bias. Llama's files hold each part
// transposed.
ColumnParallelLinear AddColumnParallelLinear(
    const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
    const std::vector<std::pair<std::string, int64_t>>& parts,
    const std::vector<ShardSegment>& segments, int64_t in_features, double stddev);

// Adds the rank's rows of a matrix [rows.size(), C], whose units stay whole, and for
// GPT-2 a bias [C].
RowParallelLinear AddRowParallelLinear(const ModelConfig& config, const TensorParallel& tp,
                                       ParameterArena* arena, const std::string& name,
                                       const ShardSegment& rows, double stddev);

}  // namespace strake

#endif  // STRAKE_MODELS_LAYER_PARAMETERS_H_
