// What an Engine does on a mesh with pipeline stages.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/residual_add/residual_add.h"
#include "glog/logging.h"
#include "train/engine/engine.h"
#include "train/engine/stage_models.h"
#include "train/engine/stage_runner.h"

namespace strake {

absl::StatusOr<std::unique_ptr<StageRunner>> Engine::CreateStage(
    absl::Span<const size_t> arena_bytes) {
  return StageRunner::Create(
      {.shape = PipelineShapeOf(options_, mesh_->sizes().pp),
       .seq_len = local_seq_len(),
       .reduces_each = options_.gradients.zero == 2 && mesh_->gradient_group().size() > 1},
      {.ctx = &*context_, .models = &models_, .reducer = reducer_.get()},
      mesh_->communicator(MeshAxis::kPp), arena_bytes);
}

absl::Status Engine::Queue(const Tensor& tokens, const Tensor& targets, double scale,
                           const Documents& documents) {
  CHECK_LT(queue_.size(), options_.pipeline.micro_batches) << "[engine] micro-batches of a step";
  STRAKE_ASSIGN_OR_RETURN(TokenPlace place, Upload(tokens, targets, documents));
  QueuedBatch& queued = queue_.emplace_back();
  queued.lengths.assign(document_lengths_.begin(), document_lengths_.end());
  // The upload to a GPU is a copy already.
  if (cuda_ == nullptr && !dry_run()) {
    const auto keep = [&](std::vector<int32_t>& copy, void** from) {
      const auto* const values = static_cast<const int32_t*>(*from);
      copy.assign(values, values + place.num_tokens);
      *from = copy.data();
    };
    keep(queued.tokens, &place.tokens);
    keep(queued.targets, &place.targets);
    if (place.has_documents) keep(queued.positions, &place.positions);
  }
  queued.batch = StageBatchAt(place, scale);
  queued.batch.documents.lengths = queued.lengths;
  return absl::OkStatus();
}

StageBatch Engine::StageBatchAt(const TokenPlace& place, double scale) const {
  return {.tokens = TensorAt(place.tokens, place.num_tokens),
          .targets = TensorAt(place.targets, place.num_tokens),
          .documents = DocumentsAt(place),
          .scale = scale};
}

absl::Status Engine::RunStage() {
  values_fetched_ = false;
  in_step_ = true;
  num_sequences_ = 0;
  context_->set_pass(Pass::kForward);
  STRAKE_RETURN_IF_ERROR(reducer_->ClearGrads(*context_));
  const bool gather = std::exchange(weights_wait_, false);
  if (gather) StartGather();
  std::vector<StageBatch> batches;
  for (const QueuedBatch& queued : queue_) batches.push_back(queued.batch);
  const absl::Status trained =
      stage_->Train(batches,
                    [&](const Transformer& model, const Tensor& loss,
                        const TransformerSaved& saved) -> absl::Status {
                      if (weight_gather_.has_value() && weight_gather_->in_flight()) {
                        STRAKE_RETURN_IF_ERROR(weight_gather_->WaitForAll());
                      }
                      STRAKE_RETURN_IF_ERROR(AddLoss(model, loss, saved));
                      STRAKE_RETURN_IF_ERROR(SumSequences(loss));
                      return KeepSequenceLosses(loss.dim(0) / local_seq_len());
                    });
  STRAKE_RETURN_IF_ERROR(TellStages(trained));
  if (gather) STRAKE_RETURN_IF_ERROR(weight_gather_->WaitForAll());
  num_sequences_ = 0;
  for (const StageBatch& batch : batches) {
    num_sequences_ += batch.tokens.dim(0) / local_seq_len();
  }
  queue_.clear();
  return absl::OkStatus();
}

absl::Status Engine::EvaluateOnStage(const TokenPlace& batch) {
  values_fetched_ = false;
  return TellStages(
      stage_->Evaluate(StageBatchAt(batch, /*scale=*/0),
                       [&](const Transformer& model, const Tensor& loss,
                           const TransformerSaved& saved) { return AddLoss(model, loss, saved); }));
}

absl::Status Engine::TellStages(absl::Status status) {
  if (!status.ok()) mesh_->communicator(MeshAxis::kPp).Abort(status);
  return status;
}

// The two copies of a tied table have the gradients of their own uses. Each end adds the other's,
// which gives both the same bits.
absl::Status Engine::SumTiedTable() {
  Communicator& pp = mesh_->communicator(MeshAxis::kPp);
  for (const ParameterRecord& record : parameters_.records()) {
    if (!record.own_bucket) continue;
    const LayerScope layer(*context_, "tied table");
    const int other = pp.rank() == 0 ? pp.size() - 1 : 0;
    for (const ArenaPart& part : grads()) {
      const ShardRange range = {std::max(part.begin, record.offset),
                                std::min(part.end(), record.end())};
      if (range.begin >= range.end) continue;
      const ActivationScope scope(context_->arena());
      const Tensor own = part.Rows(range);
      const Tensor theirs = context_->arena().Allocate(own.dtype(), own.shape());
      auto sent = pp.Send(own, other);
      auto received = pp.Recv(theirs, other);
      STRAKE_RETURN_IF_ERROR(received.Wait().status());
      STRAKE_RETURN_IF_ERROR(sent.Wait().status());
      STRAKE_RETURN_IF_ERROR(ResidualAddForward(*context_, own, theirs, own));
    }
  }
  return absl::OkStatus();
}

}  // namespace strake
