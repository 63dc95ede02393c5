#include "tests/train_layout.h"

#include <chrono>
#include <optional>
#include <utility>

#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/testing/test_tensor.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake::testing {
namespace {

// Tokens and targets of the global batch of a step.
struct GlobalBatch {
  GlobalBatch(const LayoutCase& layout, int step)
      : tokens(DType::kI32, {layout.GlobalBatch() * layout.kSeqLen}),
        targets(DType::kI32, {layout.GlobalBatch() * layout.kSeqLen}) {
    FillTokens(tokens, 2 * step, layout.vocab_size);
    FillTokens(targets, 2 * step + 1, layout.vocab_size);
  }

  TestTensor tokens, targets;
};

absl::StatusOr<std::vector<double>> ToDoubles(const Tensor& x) {
  STRAKE_ASSIGN_OR_RETURN(const HostCopy host, HostCopy::Of(x));
  std::vector<double> values(x.num_elements());
  CopyConvert(host, Tensor(values.data(), DType::kF64, x.shape()));
  return values;
}

// One rank's part of a run.
class Trainer {
 public:
  Trainer(const LayoutCase& layout, const TrainOptions& options, Engine* engine)
      : layout_(layout), options_(options), engine_(engine) {}

  absl::StatusOr<StepRecord> Step(int step) {
    const GlobalBatch batch(layout_, step);
    for (int m = 0; m < layout_.num_micro_batches; ++m) {
      const bool last = m + 1 == layout_.num_micro_batches;
      STRAKE_RETURN_IF_ERROR(engine_->AccumulateGradients(Part(batch.tokens, m),
                                                          Part(batch.targets, m), Scale(), last));
    }
    STRAKE_RETURN_IF_ERROR(engine_->SumGradients());
    StepRecord record;
    for (const ArenaPart& part : engine_->grads()) {
      STRAKE_ASSIGN_OR_RETURN(const std::vector<double> grads, ToDoubles(part.values));
      record.grads.insert(record.grads.end(), grads.begin(), grads.end());
    }
    STRAKE_ASSIGN_OR_RETURN(
        record.norm, engine_->Update({.lr = 1e-2, .eps = 1e-3, .weight_decay = 0.1, .step = step},
                                     options_.clip_norm));
    STRAKE_ASSIGN_OR_RETURN(record.loss, MeanLoss());
    return record;
  }

  absl::StatusOr<double> Evaluate() {
    const GlobalBatch batch(layout_, kNumTrainingSteps + 1);
    STRAKE_RETURN_IF_ERROR(engine_->GatherWeights());
    for (int m = 0; m < layout_.num_micro_batches; ++m) {
      STRAKE_RETURN_IF_ERROR(engine_->EvaluateLoss(Part(batch.tokens, m), Part(batch.targets, m)));
    }
    return MeanLoss();
  }

 private:
  double Scale() const { return 1.0 / (layout_.GlobalBatch() * layout_.kSeqLen); }

  // Micro-batch `m` of this rank.
  Tensor Part(const Tensor& global, int m) const {
    const int64_t part = m * layout_.dp + engine_->mesh().coordinates().dp;
    const int64_t num_tokens = layout_.micro_batch * layout_.kSeqLen;
    return global.Rows(part * num_tokens, (part + 1) * num_tokens);
  }

  absl::StatusOr<double> MeanLoss() const {
    STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine_->Agree(/*stop=*/false));
    return all.loss_sum * Scale();
  }

  const LayoutCase& layout_;
  const TrainOptions& options_;
  Engine* const engine_;
};

}  // namespace

void SetWeights(ThreadTeam& team, ParameterArena* arena) {
  for (ParameterRecord& record : arena->records()) {
    if (record.init.stddev == 0) record.init.stddev = 0.1;
  }
  const absl::Status status = InitializeParameters(/*seed=*/1, team, arena);
  CHECK(status.ok()) << status;
}

absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(const LayoutCase& layout, const Mesh& mesh) {
  EngineOptions options = layout.Options();
  if (layout.gpu_per_rank) {
    options.cuda_device = mesh.rank();
    options.cuda_graph = true;
  }
  STRAKE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Create(options, mesh));
  SetWeights(engine->team(), &engine->parameters());
  STRAKE_RETURN_IF_ERROR(engine->optimizer().SetMasters());
  return engine;
}

absl::StatusOr<RankRecord> TrainOnRank(const LayoutCase& layout, const TrainOptions& options,
                                       const Mesh& mesh) {
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, MakeEngine(layout, mesh));
  Trainer trainer(layout, options, engine.get());
  RankRecord record;
  for (const ArenaPart& part : engine->grads()) record.ranges.push_back(part.range());
  for (int step = 1; step <= kNumTrainingSteps; ++step) {
    STRAKE_ASSIGN_OR_RETURN(StepRecord done, trainer.Step(step));
    record.steps.push_back(std::move(done));
  }
  STRAKE_ASSIGN_OR_RETURN(record.evaluation_loss, trainer.Evaluate());
  STRAKE_ASSIGN_OR_RETURN(record.weights, ToDoubles(engine->parameters().values()));
  return record;
}

absl::StatusOr<std::vector<RankRecord>> TrainLayout(const LayoutCase& layout,
                                                    const TrainOptions& options) {
  std::vector<RankRecord> records(NumRanks(layout.Sizes()));
  STRAKE_RETURN_IF_ERROR(
      RunOnThreads(layout.Sizes(), {.timeout = std::chrono::minutes(1), .check = options.check},
                   [&](const Mesh& mesh) -> absl::Status {
                     std::optional<Mesh> wrapped;
                     if (options.wrap) wrapped.emplace(options.wrap(mesh));
                     STRAKE_ASSIGN_OR_RETURN(
                         records[mesh.rank()],
                         TrainOnRank(layout, options, wrapped.has_value() ? *wrapped : mesh));
                     return absl::OkStatus();
                   }));
  return records;
}

}  // namespace strake::testing
