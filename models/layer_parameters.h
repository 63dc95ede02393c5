// How the layers of a model declare their parameters: names in files, shapes, shards, initial
// weights. A size that the tensor-parallel size does not divide is a CHECK failure here: call
// CheckTensorParallel() first.
//
// Initial weights are normal, biases 0, norm weights 1 (0 where norms multiply by 1 + w).
// Projections into the residual stream may be scaled down by the number of residual layers (Radford
// et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3). An adapter's A
// is uniform within 1 / sqrt(in), as PEFT's, and B 0.
#ifndef STRAKE_MODELS_LAYER_PARAMETERS_H_
#define STRAKE_MODELS_LAYER_PARAMETERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/memory/parameter_arena.h"
#include "core/nn/norm.h"
#include "models/families/family.h"
#include "models/model_config.h"
#include "parallel/tensor/column_parallel_linear.h"
#include "parallel/tensor/qk_norm.h"
#include "parallel/tensor/row_parallel_linear.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// The tensor names in the files of the model's family. CHECKs that it has a family.
const TensorNames& TensorNamesOf(const ModelConfig& config);

// Expands a member of TensorNames for one layer: "transformer.h.3.ln_1". CHECKs that it is not
// null.
std::string TensorName(const char* pattern, int64_t layer = 0);

// Returns whether a rank's gradient of a parameter on the residual stream is whole or partial.
ReplicatedGrad ResidualGrad(const TensorParallel& tp);

// Adds `name`.weight [C], and for a LayerNorm `name`.bias [C].
Norm AddNorm(const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
             const std::string& name);

// Adds the weights of a layer's norms of queries and keys, in this order, for the rank's heads;
// none without such norms.
std::optional<QkNormLayer> AddQkNorm(const ModelConfig& config, int64_t index,
                                     const TensorParallel& tp, ParameterArena* arena);

// Adds the rank's part of a matrix [C, sum of the parts' widths] of one or more parts (name,
// columns), cut by `segments`, one for each part, and with `bias` a bias. Neighbouring parts of one
// name are one tensor of the files; `interleaved`: the parts are one tensor there, in which the
// segments' units alternate. Where the config has adapters of the parts' modules, they are added to
// `adapters`: "base_model.model.NAME.lora_A.weight" and "lora_B", PEFT's names.
ColumnParallelLinear AddColumnParallelLinear(
    const ModelConfig& config, const TensorParallel& tp, ParameterArena* arena,
    ParameterArena* adapters, const std::vector<std::pair<std::string, int64_t>>& parts,
    const std::vector<ShardSegment>& segments, bool bias, bool interleaved = false);

// Adds the rank's rows of a matrix [rows.size(), C], whose units stay whole, and with `bias` a bias
// [C]; likewise an adapter.
RowParallelLinear AddRowParallelLinear(const ModelConfig& config, const TensorParallel& tp,
                                       ParameterArena* arena, ParameterArena* adapters,
                                       const std::string& name, const ShardSegment& rows,
                                       bool bias);

}  // namespace strake

#endif  // STRAKE_MODELS_LAYER_PARAMETERS_H_
