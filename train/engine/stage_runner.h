// StageRunner: the passes of a pipeline's stage, in the order of its schedule
// (parallel/pipeline/schedule.h), with what it receives from and sends to other stages.
//
//   N tokens of a micro-batch, R of them on this rank (parallel/tensor/tensor_parallel.h), C hidden
//
//   forward          x [R, C] from the stage before -> model -> x [R, C] to the stage behind
//   input gradient   dx [R, C] from the stage behind -> model -> dx [R, C] to the stage before
//   weight gradient  += into the gradients, which are reduced in the chunk's last micro-batch
//
// A schedule whose weight passes follow their input passes does both at once. Each pass through a
// chunk that is in flight has memory of its own: for its input, what its backward pass reads, and
// the gradient of its output. It is free again when the weight gradient is there and the input's
// gradient has been received. Scratch is shared. Sends overlap what the stage does next; a pass
// waits for what it receives.
#ifndef STRAKE_TRAIN_ENGINE_STAGE_RUNNER_H_
#define STRAKE_TRAIN_ENGINE_STAGE_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/op_profile.h"
#include "core/base/pending.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor.h"
#include "models/model_parts.h"
#include "models/transformer.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/stage_links.h"

namespace strake {

// Inputs of a micro-batch, on the models' device, except the documents' lengths.
struct StageBatch {
  Tensor tokens, targets;  // [N] i32
  Documents documents;
  double scale = 0;  // of the sum of the losses
};

// What a stage works with; all of it outlives the runner.
struct StageParts {
  Context* ctx;                                             // its arena is for scratch
  const std::vector<std::unique_ptr<Transformer>>* models;  // by chunk
  GradientReducer* reducer;
};

// Takes the losses [N] of a micro-batch, on the last stage.
using OnLoss = absl::FunctionRef<absl::Status(const Transformer& model, const Tensor& loss,
                                              const TransformerSaved& saved)>;

class StageRunner {
 public:
  struct Options {
    PipelineShape shape;
    int64_t seq_len = 0;  // tokens of a sequence on a rank
    // Gradients are reduced in every micro-batch: the head's weight gradient then waits for the
    // micro-batch's backward pass.
    bool reduces_each = false;
  };

  // Every rank of `pp` calls it. `arena_bytes` are those of a dry run's arena_bytes(); without them
  // this is one. ResourceExhausted when there is no memory; else the error of a collective.
  static absl::StatusOr<std::unique_ptr<StageRunner>> Create(const Options& options,
                                                             const StageParts& parts,
                                                             Communicator& pp,
                                                             absl::Span<const size_t> arena_bytes);

  // Does the passes of a step, whose gradients have been cleared: as many micro-batches as the
  // shape's. Afterwards gradients are summed over data-parallel ranks.
  absl::Status Train(absl::Span<const StageBatch> batches, OnLoss on_loss);

  // Does a micro-batch's forward pass through the stage's chunks.
  absl::Status Evaluate(const StageBatch& batch, OnLoss on_loss);

  // The arenas of passes: their peaks in a dry run.
  std::vector<size_t> arena_bytes() const;
  // Their memory.
  std::vector<absl::Span<char>> arenas() const;
  const StageLinks& links() const { return links_; }
  const ModelParts& parts() const { return chunks_; }

 private:
  // A pass through a chunk, or the memory for one.
  struct Flight {
    ActivationArena arena, kept;  // of the forward pass; of what waits for the weight gradient
    int micro_batch = -1;         // -1: free
    TransformerSaved saved = {};
    Tensor y = {};                                                // what the forward pass sent
    std::optional<Pending<Tensor>> output = {}, input_grad = {};  // on their way
    std::optional<Pending<Tensor>> output_grad = {};              // to be received
  };

  StageRunner(const Options& options, const StageParts& parts, Communicator& pp, StageLinks links);
  absl::Status Allocate(absl::Span<const size_t> arena_bytes);
  const Transformer& model(int chunk) const { return chunks_.part(chunk); }
  bool PassesApart(int chunk) const;

  absl::StatusOr<Flight*> StartFlight(int chunk, int micro_batch);
  Flight& FlightOf(int chunk, int micro_batch);
  Flight& FlightOf(const PipelineAction& action);
  static absl::Status FinishSends(Flight& flight);
  absl::StatusOr<Tensor> Received(Pending<Tensor> pending) const;
  int64_t NumRows(const StageBatch& batch) const;
  void PostOutputGrad(const PipelineAction& action);

  absl::Status Forward(const PipelineAction& action, const StageBatch& batch, OnLoss on_loss);
  absl::Status InputGradient(const PipelineAction& action);
  absl::Status WeightGradient(const PipelineAction& action);
  // Runs what adds to a chunk's weight gradients.
  absl::Status Reduce(const PipelineAction& action, absl::FunctionRef<absl::Status()> backward);

  const Options options_;
  const StageParts parts_;
  const std::vector<PipelineAction> actions_;
  StageLinks links_;
  const ModelParts chunks_;
  std::vector<std::deque<Flight>> flights_;  // by chunk
};

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_STAGE_RUNNER_H_
