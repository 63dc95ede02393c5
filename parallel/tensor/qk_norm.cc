#include "parallel/tensor/qk_norm.h"

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"

namespace strake {

QkNormLayer::QkNormLayer(const QkNormHeads& heads, const Parameter* query_weight,
                         const Parameter* key_weight, double eps, double weight_offset,
                         const TensorParallel& tp)
    : heads_(heads),
      query_(query_weight),
      key_(key_weight),
      eps_(eps),
      weight_offset_(weight_offset),
      tp_(tp) {
  heads_.num_ranks = heads_.kind == QkNormKind::kWhole ? tp.size() : 1;
}

QkNormWeights QkNormLayer::Weights() const {
  return {.query = query_->value, .key = key_->value, .offset = weight_offset_};
}

Tensor QkNormLayer::AllocateSums(const Context& ctx, const Tensor& qkv) const {
  if (heads_.num_ranks == 1) return Tensor();
  return ctx.arena().Allocate(AccumulationDType(qkv.dtype()), {qkv.dim(0), 2});
}

void QkNormLayer::Allocate(const Context& ctx, const Tensor& qkv, QkNormSaved* saved) const {
  saved->raw = ctx.arena().Allocate(qkv.dtype(), {qkv.dim(0), heads_.num_normalized()});
  saved->rstd =
      ctx.arena().Allocate(AccumulationDType(qkv.dtype()), {qkv.dim(0), heads_.num_groups()});
}

absl::Status QkNormLayer::Forward(const Context& ctx, Tensor qkv, const QkNormSaved* saved) const {
  const LayerScope layer(ctx, layer_);
  const ActivationScope scope(ctx.arena());
  ctx.WillRead(*query_);
  ctx.WillRead(*key_);
  Tensor raw, rstd;
  if (saved != nullptr) {
    raw = saved->raw;
    rstd = saved->rstd;
  } else {
    rstd = ctx.arena().Allocate(AccumulationDType(qkv.dtype()), {qkv.dim(0), heads_.num_groups()});
  }
  const Tensor sums = AllocateSums(ctx, qkv);
  if (sums.defined()) {
    STRAKE_RETURN_IF_ERROR(QkNormForwardSums(ctx, heads_, qkv, sums));
    STRAKE_RETURN_IF_ERROR(tp_.AllReduceSum(ctx, sums));
  }
  return QkNormForward(ctx, heads_, Weights(), eps_, sums, qkv, raw, rstd);
}

absl::Status QkNormLayer::Backward(const Context& ctx, const QkNormSaved& saved,
                                   Tensor dqkv) const {
  const LayerScope layer(ctx, layer_);
  const ActivationScope scope(ctx.arena());
  const Tensor sums = AllocateSums(ctx, dqkv);
  if (sums.defined()) {
    STRAKE_RETURN_IF_ERROR(QkNormBackwardSums(ctx, heads_, Weights(), saved.raw, dqkv, sums));
    STRAKE_RETURN_IF_ERROR(tp_.AllReduceSum(ctx, sums));
  }
  const auto grad_of = [](const Parameter& p) { return p.frozen ? Tensor() : p.grad; };
  STRAKE_RETURN_IF_ERROR(QkNormBackward(ctx, heads_, Weights(), saved.raw, saved.rstd, sums, dqkv,
                                        grad_of(*query_), grad_of(*key_)));
  ctx.GradReady(*key_);
  ctx.GradReady(*query_);
  return absl::OkStatus();
}

}  // namespace strake
