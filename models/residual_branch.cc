#include "models/residual_branch.h"

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/copy/copy.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/ops/scale/scale.h"
#include "models/layer_parameters.h"

namespace strake {

ResidualBranch::ResidualBranch(const ModelConfig& config, const TensorParallel& tp,
                               ParameterArena* arena, const char* name, int64_t index,
                               const char* layer)
    : scale_(config.residual_scale) {
  if (config.norm_place == NormPlace::kAfter) return;
  norm_ = AddNorm(config, tp, arena, TensorName(name, index));
  norm_->set_layer(layer);
}

void ResidualBranch::AddPostNorm(const ModelConfig& config, const TensorParallel& tp,
                                 ParameterArena* arena, const char* name, int64_t index,
                                 const char* layer) {
  if (config.norm_place == NormPlace::kBefore) return;
  post_norm_ = AddNorm(config, tp, arena, TensorName(name, index));
  post_norm_->set_layer(layer);
}

absl::StatusOr<Tensor> ResidualBranch::Input(const Context& ctx, const ResidualStream& stream,
                                             ResidualBranchSaved* saved) const {
  if (norm_.has_value()) return norm_->Forward(ctx, stream.x, stream.residual, &saved->norm);
  saved->norm.x = stream.x;
  if (stream.residual.defined()) {
    STRAKE_RETURN_IF_ERROR(ResidualAddForward(ctx, stream.x, stream.residual, stream.x));
  }
  return stream.x;
}

absl::StatusOr<ResidualStream> ResidualBranch::Output(const Context& ctx, const Tensor& o,
                                                      ResidualBranchSaved* saved) const {
  Tensor y = o;
  if (post_norm_.has_value()) {
    STRAKE_ASSIGN_OR_RETURN(y,
                            post_norm_->Forward(ctx, o, /*residual=*/Tensor(), &saved->post_norm));
  }
  if (scale_ != 1) STRAKE_RETURN_IF_ERROR(Scale(ctx, scale_, y, y));
  return ResidualStream{.x = y, .residual = saved->norm.x};
}

absl::StatusOr<Tensor> ResidualBranch::BackwardOutput(const Context& ctx, const Context* kept,
                                                      const Tensor& dy,
                                                      ResidualBranchSaved* saved) const {
  if (scale_ == 1 && !post_norm_.has_value()) return dy;
  const Tensor d_out = ctx.arena().Allocate(dy.dtype(), dy.shape());
  if (kept != nullptr && post_norm_.has_value()) {
    const Tensor scaled = kept->arena().Allocate(dy.dtype(), dy.shape());
    STRAKE_RETURN_IF_ERROR(scale_ != 1 ? Scale(ctx, scale_, dy, scaled) : Copy(ctx, dy, scaled));
    STRAKE_RETURN_IF_ERROR(
        post_norm_->BackwardInput(ctx, scaled, /*accumulate_dx=*/false, d_out, &saved->post_norm));
    return d_out;
  }
  if (scale_ != 1) STRAKE_RETURN_IF_ERROR(Scale(ctx, scale_, dy, d_out));
  if (post_norm_.has_value()) {
    STRAKE_RETURN_IF_ERROR(post_norm_->Backward(ctx, scale_ != 1 ? d_out : dy, saved->post_norm,
                                                /*accumulate_dx=*/false, d_out));
  }
  return d_out;
}

absl::Status ResidualBranch::BackwardInput(const Context& ctx, const Context* kept,
                                           const Tensor& dh, const Tensor& dx,
                                           ResidualBranchSaved* saved) const {
  if (!norm_.has_value()) return ResidualAddForward(ctx, dh, dx, dx);
  if (kept == nullptr) return norm_->Backward(ctx, dh, saved->norm, /*accumulate_dx=*/true, dx);
  return norm_->BackwardInput(ctx, dh, /*accumulate_dx=*/true, dx, &saved->norm);
}

Tensor ResidualBranch::AllocateInputGradient(const Context* kept, const Tensor& dx) const {
  if (kept == nullptr || !norm_.has_value() || !norm_->trained()) return Tensor();
  return kept->arena().Allocate(dx.dtype(), dx.shape());
}

absl::Status ResidualBranch::BackwardOutputWeight(const Context& ctx,
                                                  const ResidualBranchSaved& saved) const {
  return post_norm_.has_value() ? post_norm_->BackwardWeight(ctx, saved.post_norm)
                                : absl::OkStatus();
}

absl::Status ResidualBranch::BackwardInputWeight(const Context& ctx,
                                                 const ResidualBranchSaved& saved) const {
  return norm_.has_value() ? norm_->BackwardWeight(ctx, saved.norm) : absl::OkStatus();
}

}  // namespace strake
