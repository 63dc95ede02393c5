// Engine: one rank's model, optimizer and memory, and the steps that train them.
#ifndef STRAKE_TOOLS_ENGINE_H_
#define STRAKE_TOOLS_ENGINE_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/shard_range.h"
#include "core/tensor/tensor.h"
#include "models/transformer.h"
#include "optim/adamw.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/mesh/mesh.h"
#include "parallel/tensor/partial_gradients.h"
#include "tools/engine_options.h"
#include "tools/memory_plan.h"

namespace strake {

// Used on the thread that made it. Every rank of the mesh makes one and calls the same functions in
// the same order; an error of a collective ends them all. A step:
//
//   AccumulateGradients() for each micro-batch, SumGradients(), Update(), Agree()
class Engine {
 public:
  // Allocates everything, zeroed, as PlanMemory() says; the caller sets the weights. `mesh` must
  // outlive the engine. ResourceExhausted when there is no memory.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                        const Mesh& mesh);

  // tokens and targets [B*T] i32, B <= micro_batch, T = seq_len: this data-parallel rank's, the
  // same on all its tensor-parallel ranks. Adds the gradients of scale * (sum of the losses), and
  // returns that sum unscaled, in nats. During the backward pass of the step's `last` micro-batch
  // gradients are summed over the data-parallel ranks. Internal, naming the first tensor in
  // execution order, where the loss is not finite; the gradients are then not touched.
  absl::StatusOr<double> AccumulateGradients(const Tensor& tokens, const Tensor& targets,
                                             double scale, bool last);

  // The sum of the losses alone; the same error. No collective joins data-parallel ranks.
  absl::StatusOr<double> EvaluateLoss(const Tensor& tokens, const Tensor& targets);

  // Completes the gradients that tensor-parallel ranks share. Afterwards grads() are those of the
  // whole model and batch.
  absl::Status SumGradients();

  // Clips the gradients by their global norm, updates the weights on every rank, and zeroes the
  // gradients. Returns the norm before clipping. Internal, naming the tensor, and nothing updated,
  // where the norm is not finite. With the communicators' check mode, an error where weights that
  // ranks share have drifted apart.
  absl::StatusOr<double> Update(const AdamWStep& step, double clip_norm);

  // What every rank knows at the end of a step: the losses summed over data-parallel ranks, and
  // whether any rank wants to stop.
  struct Agreement {
    double loss_sum = 0;
    bool stop = false;
  };
  // `loss_sum` is that of this rank's micro-batches.
  absl::StatusOr<Agreement> Agree(double loss_sum, bool stop);

  // DataLoss, naming the tensor, where weights that ranks share differ: after loading, since ranks
  // on several machines may have read other files.
  absl::Status CompareReplicas() const;

  const EngineOptions& options() const { return options_; }
  const MemoryPlan& memory_plan() const { return plan_; }
  const Mesh& mesh() const { return *mesh_; }
  const Transformer& model() const { return *model_; }
  ParameterArena& parameters() { return parameters_; }
  AdamW& optimizer() { return *optimizer_; }
  ThreadTeam& team() { return team_; }
  Context& context() { return *context_; }

  // What this rank updates of the parameters' index space, and its gradients [range().size()].
  const ShardRange& range() const { return reducer_->range(); }
  const Tensor& grads() const { return reducer_->grads(); }

  // Those of groups of more than one rank, for their counters.
  std::vector<const Communicator*> communicators() const;

 private:
  Engine(const EngineOptions& options, const Mesh& mesh);
  absl::Status Allocate();
  absl::StatusOr<double> FiniteSum(const Tensor& loss, const TransformerSaved& saved) const;
  absl::Status GradientError(double norm) const;

  const EngineOptions options_;
  const Mesh* const mesh_;
  const TensorParallel tp_;
  const MemoryPlan plan_;
  ThreadTeam team_;
  ParameterArena parameters_;
  std::unique_ptr<Transformer> model_;
  std::optional<ActivationArena> activations_;
  std::optional<Context> context_;
  std::unique_ptr<GradientReducer> reducer_;
  std::optional<PartialGradients> partial_gradients_;
  std::optional<AdamW> optimizer_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_ENGINE_H_
