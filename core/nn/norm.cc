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

absl::Status Norm::Backward(const Context& ctx, const Tensor& dy, const NormSaved& saved,
                            bool accumulate_dx, Tensor dx) const {
  const LayerScope layer(ctx, layer_);
  const bool frozen = weight_->frozen;
  const Tensor dweight = frozen ? Tensor() : weight_->grad;
  if (bias_ == nullptr) {
    STRAKE_RETURN_IF_ERROR(RmsNormBackward(ctx, dy, saved.x, weight_->value, weight_offset_,
                                           saved.rstd, accumulate_dx, dx, dweight));
  } else {
    STRAKE_RETURN_IF_ERROR(LayerNormBackward(ctx,
                                             {.dy = dy,
                                              .x = saved.x,
                                              .weight = weight_->value,
                                              .mean = saved.mean,
                                              .rstd = saved.rstd,
                                              .dx = dx,
                                              .dweight = dweight,
                                              .dbias = frozen ? Tensor() : bias_->grad},
                                             accumulate_dx));
    ctx.GradReady(*bias_);
  }
  ctx.GradReady(*weight_);
  return absl::OkStatus();
}

}  // namespace strake
