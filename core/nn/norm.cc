#include "core/nn/norm.h"

#include "core/base/status_macros.h"
#include "core/ops/norm/layer_norm.h"
#include "core/ops/norm/rms_norm.h"
#include "glog/logging.h"

namespace strake {

Norm::Norm(const Parameter* weight, const Parameter* bias, double eps, double weight_offset)
    : weight_(weight), bias_(bias), eps_(eps), weight_offset_(weight_offset) {
  CHECK(bias == nullptr || weight_offset == 0)
      << "[Norm] bias with weight_offset " << weight_offset;
}

absl::StatusOr<Tensor> Norm::Forward(const Context& ctx, Tensor x, const Tensor& residual,
                                     NormSaved* saved) const {
  const LayerScope layer(ctx, layer_);
  ActivationArena& arena = ctx.arena();
  const DType statistics = AccumulationDType(x.dtype());
  const Tensor y = arena.Allocate(x.dtype(), x.shape());
  const Tensor sum = residual.defined() ? x : Tensor();  // in place
  saved->x = x;
  ctx.WillRead(*weight_);
  if (bias_ != nullptr) ctx.WillRead(*bias_);
  saved->rstd = arena.Allocate(statistics, {x.dim(0)});
  if (bias_ == nullptr) {
    STRAKE_RETURN_IF_ERROR(RmsNormForward(ctx, x, residual, weight_->value, eps_, weight_offset_,
                                          sum, y, saved->rstd));
    return y;
  }
  saved->mean = arena.Allocate(statistics, {x.dim(0)});
  STRAKE_RETURN_IF_ERROR(LayerNormForward(ctx,
                                          {.x = x,
                                           .residual = residual,
                                           .weight = weight_->value,
                                           .bias = bias_->value,
                                           .sum = sum,
                                           .y = y,
                                           .mean = saved->mean,
                                           .rstd = saved->rstd},
                                          eps_));
  return y;
}

absl::Status Norm::Run(const Context& ctx, const Tensor& dy, const NormSaved& saved,
                       bool accumulate_dx, const Tensor& dx, const Tensor& dweight,
                       const Tensor& dbias) const {
  if (bias_ == nullptr) {
    return RmsNormBackward(ctx, dy, saved.x, weight_->value, weight_offset_, saved.rstd,
                           accumulate_dx, dx, dweight);
  }
  return LayerNormBackward(ctx,
                           {.dy = dy,
                            .x = saved.x,
                            .weight = weight_->value,
                            .mean = saved.mean,
                            .rstd = saved.rstd,
                            .dx = dx,
                            .dweight = dweight,
                            .dbias = dbias},
                           accumulate_dx);
}

void Norm::Announce(const Context& ctx) const {
  if (bias_ != nullptr) ctx.GradReady(*bias_);
  ctx.GradReady(*weight_);
}

absl::Status Norm::Backward(const Context& ctx, const Tensor& dy, const NormSaved& saved,
                            bool accumulate_dx, Tensor dx) const {
  const LayerScope layer(ctx, layer_);
  const Tensor none;
  STRAKE_RETURN_IF_ERROR(Run(ctx, dy, saved, accumulate_dx, dx, trained() ? weight_->grad : none,
                             trained() && bias_ != nullptr ? bias_->grad : none));
  Announce(ctx);
  return absl::OkStatus();
}

absl::Status Norm::BackwardInput(const Context& ctx, const Tensor& dy, bool accumulate_dx,
                                 Tensor dx, NormSaved* saved) const {
  CHECK(!trained() || ctx.dry_run() || dx.raw() != dy.raw()) << "[norm] dx would overwrite dy";
  const LayerScope layer(ctx, layer_);
  saved->dy = dy;
  return Run(ctx, dy, *saved, accumulate_dx, dx, /*dweight=*/Tensor(), /*dbias=*/Tensor());
}

absl::Status Norm::BackwardWeight(const Context& ctx, const NormSaved& saved) const {
  if (!trained()) return absl::OkStatus();
  CHECK(saved.dy.defined()) << "[norm] BackwardWeight() before BackwardInput()";
  const LayerScope layer(ctx, layer_);
  STRAKE_RETURN_IF_ERROR(Run(ctx, saved.dy, saved, /*accumulate_dx=*/false, /*dx=*/Tensor(),
                             weight_->grad, bias_ != nullptr ? bias_->grad : Tensor()));
  Announce(ctx);
  return absl::OkStatus();
}

}  // namespace strake
