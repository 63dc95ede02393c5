#include "train/evaluation/evaluation_memory.h"

#include <algorithm>
#include <memory>

#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "models/model_parts.h"
#include "train/engine/inference_model.h"

namespace strake {
namespace {

// Each further token needs at least as much as the first ones.
double ActivationBytes(const Context& ctx, const ModelParts& model, const PassShape& shape) {
  constexpr int64_t kMaxPlanned = int64_t{1} << 20, kPart = 1024;
  const double num_tokens = double(shape.batch) * double(shape.seq_len);
  if (num_tokens <= kMaxPlanned) {
    return double(SequenceScorer::ActivationBytes(ctx, model, shape));
  }
  const PassShape part = {.batch = 1, .seq_len = std::min(kPart, shape.seq_len)};
  return double(SequenceScorer::ActivationBytes(ctx, model, part)) * num_tokens /
         double(part.seq_len);
}

}  // namespace

double EvaluationBytes(const EngineOptions& options, const MeshVector& sizes, int stage,
                       const std::vector<PassShape>& shapes) {
  const std::unique_ptr<InferenceModel> model = InferenceModel::DryRun(options, sizes, stage);
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(options.device);
  const Context ctx(&team, &arena, options.op_set);
  double activations = 0;
  for (const PassShape& shape : shapes) {
    activations = std::max(activations, ActivationBytes(ctx, model->parts(), shape));
  }
  return double(model->parameters().values().num_bytes()) + activations;
}

}  // namespace strake
