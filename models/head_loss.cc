#include "models/head_loss.h"

#include <algorithm>
#include <utility>

#include "core/base/pending.h"
#include "core/base/status_macros.h"
#include "core/ops/matmul/matmul.h"
#include "core/ops/softcap/softcap.h"
#include "glog/logging.h"
#include "parallel/tensor/vocab_parallel_cross_entropy.h"

namespace strake {
namespace {

// Rows of a tile of a GPU's matrix product.
constexpr int64_t kTileRows = 128;

void CheckTargets(const Tensor& h, const Tensor& targets) {
  CHECK(targets.shape() == Shape{h.dim(0)})
      << "[head_loss] h " << h.ToString() << ", targets " << targets.ToString();
}

}  // namespace

LogitsChunk LogitsChunk::For(Device device) {
  // A CPU's products reach their full speed from some hundred rows on.
  if (device == Device::kCpu) return {.max_bytes = size_t{256} << 20, .min_rows = 1024};
  return LogitsChunk();
}

int64_t LogitsChunk::NumRows(int64_t num_tokens, int64_t columns, DType dtype) const {
  const int64_t row_bytes = std::max<int64_t>(1, columns * DTypeSize(dtype));
  const int64_t max_rows = static_cast<int64_t>(max_bytes) / row_bytes;
  if (num_tokens <= max_rows) return std::max<int64_t>(1, num_tokens);
  const int64_t rows = std::max(max_rows / kTileRows * kTileRows, min_rows);
  return std::clamp<int64_t>(rows, 1, num_tokens);
}

int64_t LogitsChunk::NumChunks(int64_t num_tokens, int64_t columns, DType dtype) const {
  const int64_t rows = NumRows(num_tokens, columns, dtype);
  return (num_tokens + rows - 1) / rows;
}

HeadLoss::HeadLoss(Parameter* weight, WeightOwnership ownership, const VocabSlice& slice,
                   const TensorParallel& tp, const LogitsChunk& chunk, double softcap)
    : weight_(weight),
      ownership_(ownership),
      slice_(slice),
      tp_(tp),
      chunk_(chunk),
      softcap_(softcap) {
  CHECK(weight->shape.size() == 2) << "[head_loss] weight " << ShapeString(weight->shape);
  weight->grad_is_overwritten = true;
}

HeadLoss HeadLoss::WithoutSequenceParallelism() const {
  HeadLoss plain = *this;
  plain.tp_ = tp_.WithoutSequenceParallelism();
  return plain;
}

absl::StatusOr<Tensor> HeadLoss::LocalLogits(const Context& ctx, const Tensor& h) const {
  const LayerScope layer(ctx, "head");
  const Tensor logits = ctx.arena().Allocate(h.dtype(), {h.dim(0), weight_->shape[0]});
  ctx.WillRead(*weight_);
  STRAKE_RETURN_IF_ERROR(Matmul(ctx, h, weight_->value, {.transpose_b = true}, logits));
  if (softcap_ != 0) STRAKE_RETURN_IF_ERROR(Softcap(ctx, softcap_, logits, logits));
  return logits;
}

absl::StatusOr<Tensor> HeadLoss::Logits(const Context& ctx, const Tensor& h) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor all, tp_.GatherTokens(ctx, h));
  return LocalLogits(ctx, all);
}

absl::Status HeadLoss::ForEachChunk(
    const Context& ctx, const Tensor& h,
    absl::FunctionRef<absl::Status(int64_t begin, const Tensor& logits)> visit) const {
  return ForEachChunk(ctx, /*kept=*/nullptr, h, visit);
}

absl::Status HeadLoss::ForEachChunk(
    const Context& ctx, const Context* kept, const Tensor& h,
    absl::FunctionRef<absl::Status(int64_t begin, const Tensor& logits)> visit) const {
  const int64_t num_tokens = h.dim(0);
  const int64_t rows = chunk_.NumRows(num_tokens, weight_->shape[0], h.dtype());
  for (int64_t begin = 0; begin < num_tokens; begin += rows) {
    const ActivationScope scope(ctx.arena());
    const Tensor chunk = h.Rows(begin, std::min(begin + rows, num_tokens));
    STRAKE_ASSIGN_OR_RETURN(const Tensor logits, LocalLogits(kept != nullptr ? *kept : ctx, chunk));
    STRAKE_RETURN_IF_ERROR(visit(begin, logits));
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> HeadLoss::Forward(const Context& ctx, const Tensor& h, const Tensor& targets,
                                         HeadLossSaved* saved) const {
  const LayerScope head(ctx, "head");
  STRAKE_ASSIGN_OR_RETURN(saved->h, tp_.GatherTokens(ctx, h));
  CheckTargets(saved->h, targets);
  const DType dtype = AccumulationDType(h.dtype());
  const Tensor loss = ctx.arena().Allocate(dtype, targets.shape());
  STRAKE_RETURN_IF_ERROR(ForEachChunk(ctx, saved->h, [&](int64_t begin, const Tensor& logits) {
    const int64_t end = begin + logits.dim(0);
    const Tensor lse = ctx.arena().Allocate(dtype, {logits.dim(0)});
    const LayerScope layer(ctx, "loss");
    return VocabParallelCrossEntropyForward(ctx, tp_, slice_, logits, targets.Rows(begin, end),
                                            loss.Rows(begin, end), lse);
  }));
  return loss;
}

absl::StatusOr<Tensor> HeadLoss::ForwardBackward(const Context& ctx, const Tensor& h,
                                                 const Tensor& targets, double scale,
                                                 HeadLossSaved* saved, const Context* kept) const {
  const LayerScope head(ctx, "head");
  if (weight_->frozen) kept = nullptr;
  STRAKE_ASSIGN_OR_RETURN(saved->h, tp_.GatherTokens(ctx, h));
  const Tensor& all = saved->h;
  CheckTargets(all, targets);
  CHECK_GT(all.dim(0), 0) << "[head_loss] no tokens";
  const Tensor loss = ctx.arena().Allocate(AccumulationDType(h.dtype()), targets.shape());
  const Tensor dh = ctx.arena().Allocate(h.dtype(), all.shape());
  Pending<Tensor> summed_dh = dh;
  Context backward = ctx;
  backward.set_pass(Pass::kBackward);
  STRAKE_RETURN_IF_ERROR(ForEachChunk(ctx, kept, all, [&](int64_t begin, const Tensor& logits) {
    const int64_t end = begin + logits.dim(0);
    {
      const LayerScope layer(ctx, "loss");
      STRAKE_RETURN_IF_ERROR(
          VocabParallelCrossEntropyForwardBackward(ctx, tp_, slice_, targets.Rows(begin, end),
                                                   scale, softcap_, logits, loss.Rows(begin, end)));
    }
    const Tensor& dlogits = logits;
    STRAKE_RETURN_IF_ERROR(Matmul(backward, dlogits, weight_->value, {}, dh.Rows(begin, end)));
    if (end == all.dim(0)) summed_dh = tp_.SumTokensInPlace(backward, dh);
    if (kept != nullptr) saved->dlogits.push_back(dlogits);
    if (kept != nullptr || weight_->frozen) return absl::OkStatus();
    return AddWeightGradient(backward, dlogits, all.Rows(begin, end));
  }));
  if (kept == nullptr && ownership_ == WeightOwnership::kOwned) backward.GradReady(*weight_);
  STRAKE_ASSIGN_OR_RETURN(saved->dh, summed_dh.Wait());
  return loss;
}

absl::Status HeadLoss::AddWeightGradient(const Context& ctx, const Tensor& dlogits,
                                         const Tensor& h) const {
  const bool accumulate = !std::exchange(weight_->grad_is_cleared, false);
  return Matmul(ctx, dlogits, h, {.transpose_a = true, .accumulate = accumulate}, weight_->grad);
}

absl::Status HeadLoss::BackwardWeight(const Context& ctx, const HeadLossSaved& saved) const {
  if (saved.dlogits.empty()) return absl::OkStatus();
  const LayerScope head(ctx, "head");
  int64_t begin = 0;
  for (const Tensor& dlogits : saved.dlogits) {
    const int64_t end = begin + dlogits.dim(0);
    STRAKE_RETURN_IF_ERROR(AddWeightGradient(ctx, dlogits, saved.h.Rows(begin, end)));
    begin = end;
  }
  if (ownership_ == WeightOwnership::kOwned) ctx.GradReady(*weight_);
  return absl::OkStatus();
}

}  // namespace strake
