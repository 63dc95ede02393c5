#include "train/engine/step_record.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "core/ops/documents.h"
#include "core/tensor/tensor.h"
#include "glog/logging.h"
#include "models/head_loss.h"
#include "models/transformer.h"
#include "optim/adamw.h"
#include "train/engine/stage_models.h"
#include "train/evaluation/sequence_scorer.h"

namespace strake {
namespace {

// What a step is planned of, besides the options.
struct StepShape {
  MeshVector sizes;
  int rank = 0;
  int64_t num_micro_batches = 1;
  absl::Span<const int64_t> lengths = {};  // of documents; empty: one per sequence
};

// The inputs of a dry run's micro-batch, which `num_ranks` context-parallel ranks share: without
// `lengths`, each sequence is one document.
class DryBatch {
 public:
  DryBatch(const EngineOptions& options, int num_ranks, absl::Span<const int64_t> lengths = {})
      : tokens(nullptr, DType::kI32, {options.micro_batch * (options.seq_len / num_ranks)},
               options.device),
        whole_(lengths.empty() ? options.micro_batch : 0, options.seq_len) {
    if (!options.documents) return;
    documents = {tokens, lengths.empty() ? absl::MakeConstSpan(whole_) : lengths};
  }
  DryBatch(const DryBatch&) = delete;
  DryBatch& operator=(const DryBatch&) = delete;

  const Tensor tokens;
  Documents documents;

 private:
  const std::vector<int64_t> whole_;
};

// `recorder` may be null.
MemoryPlan DryRunStep(const EngineOptions& options, const StepShape& shape, OpRecorder* recorder) {
  const int64_t num_micro_batches = shape.num_micro_batches;
  CHECK_GT(num_micro_batches, 0) << "[step_record] num_micro_batches";
  const Mesh mesh = Mesh::DryRun(shape.sizes, shape.rank, recorder);
  const std::unique_ptr<Engine> engine = Engine::DryRun(options, mesh, recorder);
  const DryBatch batch(options, shape.sizes.cp, shape.lengths);
  const auto accumulate = [&](int64_t times, bool last) {
    if (times == 0) return;
    if (recorder != nullptr) recorder->set_times(times);
    const absl::Status status =
        engine->AccumulateGradients(batch.tokens, batch.tokens, /*scale=*/1, last, batch.documents);
    CHECK(status.ok()) << status;
  };
  if (shape.sizes.pp > 1) {
    // A stage's passes follow each other in an order that repeats nothing.
    for (int64_t i = 1; i < num_micro_batches; ++i) accumulate(1, /*last=*/false);
  } else if (num_micro_batches > 1) {
    accumulate(1, /*last=*/false);
    accumulate(num_micro_batches - 2, /*last=*/false);
  }
  accumulate(1, /*last=*/true);
  CHECK(engine->SumGradients().ok());
  CHECK(engine->Update(AdamWStep(), /*clip_norm=*/1).ok());
  CHECK(engine->Agree(/*stop=*/false).ok());
  return engine->memory_plan();
}

// The most of `num_tokens` tokens whose logits are one chunk, or 0.
int64_t NumTokensOfOneChunk(const LogitsChunk& chunk, const Transformer& model,
                            int64_t num_tokens) {
  const int64_t columns = model.padded_vocab_size() / model.tensor_parallel().size();
  int64_t one = 0, several = num_tokens + 1;
  while (several - one > 1) {
    const int64_t middle = one + (several - one) / 2;
    (chunk.NumChunks(middle, columns, model.dtype()) == 1 ? one : several) = middle;
  }
  return one;
}

// What passes of fewer tokens than a micro-batch's need, if that may be more: logits that are one
// chunk may be larger than a chunk of several, which is cut to tiles. Such passes are a
// validation's last, and those that score questions.
std::vector<size_t> ArenasOfFewerTokens(EngineOptions options, const StepShape& shape) {
  const int64_t local_seq_len = options.seq_len / shape.sizes.cp;
  const int64_t num_tokens = options.micro_batch * local_seq_len;
  const Mesh mesh = Mesh::DryRun(shape.sizes, shape.rank, /*recorder=*/nullptr);
  const std::unique_ptr<Engine> engine = Engine::DryRun(options, mesh, /*recorder=*/nullptr);
  const Transformer& model = *engine->models().back();
  if (!model.is_last()) return {};
  const int64_t few = NumTokensOfOneChunk(options.logits_chunk, model, num_tokens);
  if (few == 0 || few == num_tokens) return {};
  const int64_t seq_len = options.sequence_parallel ? shape.sizes.tp : 1;
  size_t bytes = 0;
  if (few >= seq_len && shape.sizes.pp == 1) {
    bytes = SequenceScorer::ActivationBytes(engine->context(), model,
                                            {.batch = few / seq_len, .seq_len = seq_len});
  }
  options.micro_batch = few / local_seq_len;
  if (options.micro_batch == 0) return {bytes};
  std::vector<size_t> arenas = DryRunStep(options, shape, /*recorder=*/nullptr).arena_bytes;
  arenas[0] = std::max(arenas[0], bytes);
  return arenas;
}

// What a stage's evaluation needs: logits may be scratch there, and kept in training.
std::vector<size_t> ArenasOfEvaluation(const EngineOptions& options, const StepShape& shape) {
  if (shape.sizes.pp == 1) return {};
  const Mesh mesh = Mesh::DryRun(shape.sizes, shape.rank, /*recorder=*/nullptr);
  const std::unique_ptr<Engine> engine = Engine::DryRun(options, mesh, /*recorder=*/nullptr);
  const DryBatch batch(options, shape.sizes.cp);
  CHECK(engine->GatherWeights().ok());
  CHECK(engine->EvaluateLoss(batch.tokens, batch.tokens, batch.documents).ok());
  return engine->memory_plan().arena_bytes;
}

// A step's plan, which holds passes of fewer tokens too.
MemoryPlan PlanStep(EngineOptions options, const StepShape& shape, OpRecorder* recorder) {
  options.pipeline.micro_batches = shape.num_micro_batches;
  options = WithLayersOfParts(std::move(options), shape.sizes.pp);
  MemoryPlan plan = DryRunStep(options, shape, recorder);
  StepShape alone = shape;
  alone.lengths = {};
  for (const std::vector<size_t>& arenas :
       {ArenasOfFewerTokens(options, alone), ArenasOfEvaluation(options, shape)}) {
    for (size_t i = 0; i < arenas.size(); ++i) {
      plan.arena_bytes[i] = std::max(plan.arena_bytes[i], arenas[i]);
    }
  }
  plan.activation_bytes =
      std::accumulate(plan.arena_bytes.begin(), plan.arena_bytes.end(), size_t{0});
  return plan;
}

// The shape that memory is planned of: of a pipeline, all micro-batches of the step.
StepShape ShapeToPlan(const EngineOptions& options, const MeshVector& sizes, int rank) {
  return {.sizes = sizes,
          .rank = rank,
          .num_micro_batches = sizes.pp > 1 ? options.pipeline.micro_batches : 1};
}

}  // namespace

StepRecord RecordStep(const EngineOptions& options, const MeshVector& sizes, int rank,
                      int64_t num_micro_batches, absl::Span<const int64_t> lengths) {
  OpRecorder recorder;
  const MemoryPlan memory = PlanStep(
      options,
      {.sizes = sizes, .rank = rank, .num_micro_batches = num_micro_batches, .lengths = lengths},
      &recorder);
  return {.calls = recorder.calls(), .memory = memory};
}

MemoryPlan PlanMemory(const EngineOptions& options, const MeshVector& sizes, int rank) {
  return PlanStep(options, ShapeToPlan(options, sizes, rank), /*recorder=*/nullptr);
}

}  // namespace strake
