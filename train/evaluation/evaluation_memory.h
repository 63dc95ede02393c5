// The memory of an evaluation, planned before it starts.
#ifndef STRAKE_TRAIN_EVALUATION_EVALUATION_MEMORY_H_
#define STRAKE_TRAIN_EVALUATION_EVALUATION_MEMORY_H_

#include <vector>

#include "core/base/dtype.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"
#include "models/activation_recompute.h"
#include "models/model_config.h"
#include "parallel/mesh/mesh.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {

// An evaluation keeps as few activations as possible.
inline constexpr ActivationRecompute kEvaluationRecompute = ActivationRecompute::kFull;

// Bytes of weights and activations of the first rank, for passes of these shapes; for shapes too
// large to plan a lower bound.
double EvaluationBytes(const ModelConfig& config, const MeshVector& sizes, DType dtype,
                       Device device, OpSet op_set, const std::vector<PassShape>& shapes);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_EVALUATION_MEMORY_H_
