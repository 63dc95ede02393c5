// Engine: one rank's model, optimizer and memory, and the steps that train them.
#ifndef STRAKE_TOOLS_ENGINE_H_
#define STRAKE_TOOLS_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "models/model_config.h"
#include "models/transformer.h"
#include "optim/adamw.h"
#include "optim/grad_clip.h"
#include "parallel/mesh/mesh.h"

namespace strake {

struct EngineOptions {
  ModelConfig model;
  int64_t seq_len = 0;
  int64_t micro_batch = 0;  // sequences per pass, at most
  int num_threads = 1;
  OpSet op_set = OpSet::kAuto;
};

// What a run allocates, to the byte, found by a dry run of a step.
struct MemoryPlan {
  size_t parameter_bytes = 0;
  size_t gradient_bytes = 0;
  size_t optimizer_bytes = 0;
  size_t activation_bytes = 0;
  size_t total_bytes() const {
    return parameter_bytes + gradient_bytes + optimizer_bytes + activation_bytes;
  }
};

// Bytes that this process may still allocate: what the system has available, and what its control
// group leaves; nothing where neither can be read.
std::optional<size_t> AvailableMemoryBytes();

// Used on the thread that made it.
class Engine {
 public:
  // Allocates everything, zeroed; ResourceExhausted before that, with both figures, where the plan
  // needs more than is available. The caller sets the weights.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options);

  // tokens and targets [B*T] i32, B <= micro_batch, T = seq_len. Adds the gradients of
  // scale * (sum of the losses), and returns that sum unscaled, in nats. Internal, naming the first
  // tensor in execution order, where the loss is not finite; the gradients are then not touched.
  absl::StatusOr<double> AccumulateGradients(const Tensor& tokens, const Tensor& targets,
                                             double scale);

  // The sum of the losses alone; the same error.
  absl::StatusOr<double> EvaluateLoss(const Tensor& tokens, const Tensor& targets);

  // Clips the accumulated gradients by their global norm, updates the weights, and zeroes the
  // gradients. Returns the norm before clipping. Internal, naming the tensor, and nothing updated,
  // where the norm is not finite.
  absl::StatusOr<double> Update(AdamWStep step, double clip_norm);

  const EngineOptions& options() const { return options_; }
  const MemoryPlan& memory_plan() const { return plan_; }
  const Transformer& model() const { return *model_; }
  ParameterArena& parameters() { return parameters_; }
  AdamW& optimizer() { return *optimizer_; }
  ThreadTeam& team() { return team_; }
  Context& context() { return *context_; }

 private:
  Engine(const EngineOptions& options, const MemoryPlan& plan);
  absl::Status Allocate();
  absl::StatusOr<double> FiniteSum(const Tensor& loss, const TransformerSaved& saved) const;

  const EngineOptions options_;
  const MemoryPlan plan_;
  Mesh mesh_;
  ThreadTeam team_;
  ParameterArena parameters_;
  std::unique_ptr<Transformer> model_;
  std::optional<ActivationArena> activations_;
  std::optional<Context> context_;
  std::optional<AdamW> optimizer_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_ENGINE_H_
