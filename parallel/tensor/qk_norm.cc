#include "parallel/tensor/qk_norm.h"

#include <cstdint>

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/copy/copy.h"
#include "glog/logging.h"

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

absl::Status QkNormLayer::Run(const Context& ctx, const QkNormSaved& saved, const Tensor& dqkv,
                              const Tensor& dquery, const Tensor& dkey) const {
  const LayerScope layer(ctx, layer_);
  const ActivationScope scope(ctx.arena());
  const Tensor sums = AllocateSums(ctx, dqkv);
  if (sums.defined()) {
    STRAKE_RETURN_IF_ERROR(QkNormBackwardSums(ctx, heads_, Weights(), saved.raw, dqkv, sums));
    STRAKE_RETURN_IF_ERROR(tp_.AllReduceSum(ctx, sums));
  }
  return QkNormBackward(ctx, heads_, Weights(), saved.raw, saved.rstd, sums, dqkv, dquery, dkey);
}

void QkNormLayer::Announce(const Context& ctx) const {
  ctx.GradReady(*key_);
  ctx.GradReady(*query_);
}

absl::Status QkNormLayer::Backward(const Context& ctx, const QkNormSaved& saved,
                                   Tensor dqkv) const {
  const auto grad_of = [](const Parameter& p) { return p.frozen ? Tensor() : p.grad; };
  STRAKE_RETURN_IF_ERROR(Run(ctx, saved, dqkv, grad_of(*query_), grad_of(*key_)));
  Announce(ctx);
  return absl::OkStatus();
}

absl::Status QkNormLayer::BackwardInput(const Context& ctx, const Context& kept, QkNormSaved* saved,
                                        Tensor dqkv) const {
  if (trained()) {
    saved->dy = kept.arena().Allocate(dqkv.dtype(), saved->raw.shape());
    const Tensor& dy = saved->dy;
    const int64_t rows = dqkv.dim(0), columns = dqkv.dim(1), width = dy.dim(1);
    const Tensor from = dqkv.Reshape({rows * columns}).Rows(0, (rows - 1) * columns + width);
    const LayerScope layer(ctx, layer_);
    STRAKE_RETURN_IF_ERROR(
        CopyRows(ctx, from, columns, rows, width, dy.Reshape({rows * width}), width));
  }
  return Run(ctx, *saved, dqkv, /*dquery=*/Tensor(), /*dkey=*/Tensor());
}

absl::Status QkNormLayer::BackwardWeight(const Context& ctx, const QkNormSaved& saved) const {
  if (!trained()) return absl::OkStatus();
  CHECK(saved.dy.defined()) << "[qk_norm] BackwardWeight() before BackwardInput()";
  const LayerScope layer(ctx, layer_);
  STRAKE_RETURN_IF_ERROR(QkNormBackwardWeight(ctx, heads_, Weights(), saved.raw, saved.rstd,
                                              saved.dy, query_->grad, key_->grad));
  Announce(ctx);
  return absl::OkStatus();
}

}  // namespace strake
