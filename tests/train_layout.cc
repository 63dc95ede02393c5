#include "tests/train_layout.h"

#include <chrono>
#include <optional>
#include <utility>

#include "core/base/status_macros.h"
#include "core/memory/device_memory.h"
#include "core/ops/documents.h"
#include "core/tensor/sequence_chunks.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "models/initialize.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake::testing {
namespace {

// The documents of a sequence: their lengths add up to its tokens.
std::vector<int64_t> LengthsOf(DocumentMode mode, int64_t sequence, int step) {
  constexpr int64_t kSeqLen = LayoutCase::kSeqLen;
  // Each length occurs, and 1, which has no target.
  std::vector<int64_t> lengths = {1 + (5 * sequence + 3 * step) % kSeqLen};
  int64_t left = kSeqLen - lengths[0];
  if (mode == DocumentMode::kMask && left > 2) {
    lengths.push_back(1 + (sequence + step) % (left - 1));
    left -= lengths.back();
  }
  if (left > 0) lengths.push_back(left);  // with kPad, padding
  return lengths;
}

// The global batch of a step.
class GlobalBatch {
 public:
  GlobalBatch(const LayoutCase& layout, int step)
      : tokens(DType::kI32, {layout.GlobalBatch() * layout.kSeqLen}),
        targets(DType::kI32, tokens->shape()),
        positions(DType::kI32, tokens->shape()),
        num_targets(tokens->num_elements()),
        mode_(layout.documents),
        step_(step) {
    FillTokens(tokens, 2 * step, layout.vocab_size);
    FillTokens(targets, 2 * step + 1, layout.vocab_size);
    if (mode_ == DocumentMode::kConcat) return;
    const std::vector<int64_t> lengths = Lengths(0, layout.GlobalBatch());
    CHECK(SetDocumentPositions(lengths, layout.kSeqLen, positions).ok());
    for (int64_t i = 0; i < layout.GlobalBatch(); ++i) TakeTargets(i);
  }

  // The lengths of the documents of sequences [begin, end).
  std::vector<int64_t> Lengths(int64_t begin, int64_t end) const {
    std::vector<int64_t> all;
    for (int64_t i = begin; i < end; ++i) {
      const std::vector<int64_t> lengths = LengthsOf(mode_, i, step_);
      all.insert(all.end(), lengths.begin(), lengths.end());
    }
    return all;
  }

  TestTensor tokens, targets, positions;
  int64_t num_targets;

 private:
  // Nothing follows a document's last token, and padding is not learnt.
  void TakeTargets(int64_t sequence) {
    int64_t end = sequence * LayoutCase::kSeqLen;
    bool padding = false;
    for (const int64_t length : LengthsOf(mode_, sequence, step_)) {
      end += length;
      for (int64_t n = padding ? end - length : end - 1; n < end; ++n) {
        targets->data<int32_t>()[n] = kNoTarget;
        --num_targets;
      }
      padding = mode_ == DocumentMode::kPad;
    }
  }

  const DocumentMode mode_;
  const int step_;
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
      MicroBatch own(*this, batch, m);
      STRAKE_RETURN_IF_ERROR(engine_->AccumulateGradients(
          own.tokens(), own.targets(), 1.0 / NumTokens(), last, own.documents()));
    }
    STRAKE_RETURN_IF_ERROR(engine_->SumGradients());
    StepRecord record;
    const double grad_scale = NumTokens() / batch.num_targets;
    for (const ArenaPart& part : engine_->grads()) {
      STRAKE_ASSIGN_OR_RETURN(const std::vector<double> grads, ToDoubles(part.values));
      for (const double grad : grads) record.grads.push_back(grad_scale * grad);
    }
    STRAKE_ASSIGN_OR_RETURN(
        record.norm, engine_->Update({.lr = 1e-2, .eps = 1e-3, .weight_decay = 0.1, .step = step},
                                     options_.clip_norm, grad_scale));
    STRAKE_ASSIGN_OR_RETURN(record.loss, MeanLoss(batch));
    return record;
  }

  absl::StatusOr<double> Evaluate() {
    const GlobalBatch batch(layout_, kNumTrainingSteps + 1);
    STRAKE_RETURN_IF_ERROR(engine_->GatherWeights());
    for (int m = 0; m < layout_.num_micro_batches; ++m) {
      MicroBatch own(*this, batch, m);
      STRAKE_RETURN_IF_ERROR(engine_->EvaluateLoss(own.tokens(), own.targets(), own.documents()));
    }
    return MeanLoss(batch);
  }

 private:
  double NumTokens() const { return layout_.GlobalBatch() * layout_.kSeqLen; }

  // The first sequence of micro-batch `m` of this rank.
  int64_t FirstSequence(int m) const {
    return (m * layout_.dp + engine_->mesh().coordinates().dp) * layout_.micro_batch;
  }
  // This rank's numbers of the sequences of micro-batch `m`: those of its chunks.
  std::vector<int32_t> Part(const Tensor& global, int m) const {
    const SequenceChunks chunks = {engine_->mesh().coordinates().cp, layout_.cp};
    return chunks.Take(global.data<int32_t>() + FirstSequence(m) * layout_.kSeqLen,
                       layout_.micro_batch, layout_.kSeqLen);
  }

  // What this rank gets of micro-batch `m`.
  class MicroBatch {
   public:
    MicroBatch(const Trainer& trainer, const GlobalBatch& batch, int m)
        : tokens_(trainer.Part(batch.tokens, m)), targets_(trainer.Part(batch.targets, m)) {
      if (trainer.layout_.documents == DocumentMode::kConcat) return;
      positions_ = trainer.Part(batch.positions, m);
      const int64_t first = trainer.FirstSequence(m);
      lengths_ = batch.Lengths(first, first + trainer.layout_.micro_batch);
    }
    Tensor tokens() { return TensorOf(tokens_); }
    Tensor targets() { return TensorOf(targets_); }
    Documents documents() {
      return lengths_.empty() ? Documents() : Documents{TensorOf(positions_), lengths_};
    }

   private:
    static Tensor TensorOf(std::vector<int32_t>& values) {
      return Tensor(values.data(), DType::kI32, {static_cast<int64_t>(values.size())});
    }

    std::vector<int32_t> tokens_, targets_, positions_;
    std::vector<int64_t> lengths_;
  };

  absl::StatusOr<double> MeanLoss(const GlobalBatch& batch) const {
    STRAKE_ASSIGN_OR_RETURN(const Engine::Agreement all, engine_->Agree(/*stop=*/false));
    return all.loss_sum / batch.num_targets;
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
  if (engine->base() != nullptr) SetWeights(engine->team(), engine->base());
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
