// The memory of an evaluation, planned before it starts.
#ifndef STRAKE_TRAIN_EVALUATION_EVALUATION_MEMORY_H_
#define STRAKE_TRAIN_EVALUATION_EVALUATION_MEMORY_H_

#include <vector>

#include "models/activation_recompute.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine_options.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {

// An evaluation keeps as few activations as possible.
inline constexpr ActivationRecompute kEvaluationRecompute = ActivationRecompute::kFull;

// Bytes of weights and activations of an InferenceModel on a rank of a stage, for passes of these
// shapes; for shapes too large to plan a lower bound.
double EvaluationBytes(const EngineOptions& options, const MeshVector& sizes, int stage,
                       const std::vector<PassShape>& shapes);

}  // namespace strake

#endif  // STRAKE_TRAIN_EVALUATION_EVALUATION_MEMORY_H_
