#include "train/evaluation/evaluation_memory.h"

#include <algorithm>

#include "core/base/thread_team.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "models/transformer.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {
namespace {

// Each further token needs at least as much as the first ones.
double ActivationBytes(const Context& ctx, const Transformer& model, const PassShape& shape) {
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

double EvaluationBytes(const ModelConfig& config, const MeshVector& sizes, DType dtype,
                       Device device, OpSet op_set, const std::vector<PassShape>& shapes) {
  int64_t longest = 1;
  for (const PassShape& shape : shapes) longest = std::max(longest, shape.seq_len);
  ParameterArena parameters;
  const Transformer model(config, longest, &parameters, TensorParallel::Planned(0, sizes.tp),
                          LogitsChunk::For(device), kEvaluationRecompute);
  parameters.AllocateDryRun(dtype, device, /*with_gradients=*/false);
  ThreadTeam team(1);
  ActivationArena arena = ActivationArena::DryRun(device);
  const Context ctx(&team, &arena, op_set);
  double activations = 0;
  for (const PassShape& shape : shapes) {
    activations = std::max(activations, ActivationBytes(ctx, model, shape));
  }
  return double(parameters.values().num_bytes()) + activations;
}

}  // namespace strake
