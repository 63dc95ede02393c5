#include "models/mlp_block.h"

#include <optional>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/memory/activation_arena.h"
#include "core/ops/activation/activation.h"
#include "core/ops/gated_activation/gated_activation.h"
#include "core/ops/residual_add/residual_add.h"
#include "models/layer_parameters.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

ColumnParallelLinear MakeUp(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                            ParameterArena* arena, ParameterArena* adapters) {
  const TensorNames& names = TensorNamesOf(c);
  const int64_t width = c.intermediate_size;
  if (!c.gated_mlp) {
    return AddColumnParallelLinear(c, tp, arena, adapters, {{TensorName(names.up, index), width}},
                                   {{"intermediate columns", width}}, c.mlp_bias);
  }
  return AddColumnParallelLinear(
      c, tp, arena, adapters,
      {{TensorName(names.gate, index), width}, {TensorName(names.up, index), width}},
      GateUpSegments(width), c.mlp_bias);
}

RowParallelLinear MakeDown(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                           ParameterArena* arena, ParameterArena* adapters) {
  return AddRowParallelLinear(c, tp, arena, adapters, TensorName(TensorNamesOf(c).down, index),
                              {"intermediate rows", c.intermediate_size}, c.mlp_bias);
}

}  // namespace

MlpBlock::MlpBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
                   ParameterArena* arena, ActivationRecompute recompute, ParameterArena* adapters)
    : recompute_(recompute),
      activation_(config.activation),
      gated_(config.gated_mlp),
      parallel_residual_(config.parallel_residual),
      adds_to_stream_(parallel_residual_ && config.norm_place == NormPlace::kBefore),
      fused_(!gated_ && activation_ == ActivationKind::kGeluTanh),
      width_(config.intermediate_size / tp.size()),
      branch_(config, tp, arena, TensorNamesOf(config).mlp_norm, index, "mlp norm"),
      up_(MakeUp(config, index, tp, arena, adapters)),
      down_(MakeDown(config, index, tp, arena, adapters)) {
  branch_.AddPostNorm(config, tp, arena, TensorNamesOf(config).mlp_post_norm, index,
                      "mlp post norm");
  up_.set_layer("mlp up");
  down_.set_layer("mlp down");
}

MlpBlock MlpBlock::WithoutSequenceParallelism() const {
  MlpBlock plain = *this;
  plain.up_ = up_.WithoutSequenceParallelism();
  plain.down_ = down_.WithoutSequenceParallelism();
  return plain;
}

Tensor MlpBlock::AllocateUp(const Context& ctx, const Tensor& x) const {
  return ctx.arena().Allocate(x.dtype(),
                              {up_.NumOutputRows(x.dim(0)), gated_ ? 2 * width_ : width_});
}

Tensor MlpBlock::AllocateActivation(const Context& ctx, const Tensor& x) const {
  return ctx.arena().Allocate(x.dtype(), {up_.NumOutputRows(x.dim(0)), width_});
}

// cuBLASLt's GELU uses the sums before they are rounded to bf16, which u no longer contains.
bool MlpBlock::KeepsActivation(const Tensor& x) const {
  return recompute_ == ActivationRecompute::kSelective && fused_ && x.device() == Device::kCuda &&
         x.dtype() == DType::kBf16;
}

absl::Status MlpBlock::ActivateUp(const Context& ctx, const Tensor& u, const Tensor& g) const {
  return gated_ ? GatedActivationForward(ctx, activation_, u, g)
                : ActivationForward(ctx, activation_, u, g);
}

absl::Status MlpBlock::Activate(const Context& ctx, const Tensor& h, const Tensor& g,
                                MlpBlockSaved* saved) const {
  if (fused_) return up_.Forward(ctx, h, &saved->up_linear, &saved->up, g).status();
  STRAKE_RETURN_IF_ERROR(
      up_.Forward(ctx, h, &saved->up_linear, /*gelu_input=*/nullptr, saved->up).status());
  return ActivateUp(ctx, saved->up, g);
}

absl::Status MlpBlock::AddDown(const Context& ctx, const Tensor& g, const Tensor& x,
                               MlpBlockSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  const Tensor o = ctx.arena().Allocate(x.dtype(), x.shape());
  STRAKE_RETURN_IF_ERROR(down_.Forward(ctx, g, &saved->down_linear, o).status());
  STRAKE_ASSIGN_OR_RETURN(const ResidualStream out, branch_.Output(ctx, o, &saved->branch));
  return ResidualAddForward(ctx, x, out.x, x);
}

absl::StatusOr<ResidualStream> MlpBlock::Forward(const Context& ctx, const ResidualStream& stream,
                                                 MlpBlockSaved* saved) const {
  // Tensors that are kept, then scratch.
  Tensor o, g;
  if (!adds_to_stream_) o = ctx.arena().Allocate(stream.x.dtype(), stream.x.shape());
  if (recompute_ != ActivationRecompute::kFull) saved->up = AllocateUp(ctx, stream.x);
  if (KeepsActivation(stream.x)) g = AllocateActivation(ctx, stream.x);
  std::optional<ActivationScope> dropped;
  if (recompute_ != ActivationRecompute::kNone) dropped.emplace(ctx.arena());
  if (recompute_ == ActivationRecompute::kFull) saved->up = AllocateUp(ctx, stream.x);
  if (!g.defined()) g = AllocateActivation(ctx, stream.x);

  const ResidualStream input = parallel_residual_ ? ResidualStream{.x = stream.residual} : stream;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, branch_.Input(ctx, input, &saved->branch));
  STRAKE_RETURN_IF_ERROR(Activate(ctx, h, g, saved));
  if (adds_to_stream_) {
    STRAKE_RETURN_IF_ERROR(AddDown(ctx, g, stream.x, saved));
  } else {
    STRAKE_RETURN_IF_ERROR(down_.Forward(ctx, g, &saved->down_linear, o).status());
  }
  if (dropped.has_value()) {
    saved->up_linear.x = Tensor();
    if (!KeepsActivation(stream.x)) saved->down_linear.linear.x = Tensor();
  }
  if (recompute_ == ActivationRecompute::kFull) saved->up = Tensor();
  dropped.reset();
  if (adds_to_stream_) return stream;
  STRAKE_ASSIGN_OR_RETURN(const ResidualStream out, branch_.Output(ctx, o, &saved->branch));
  if (parallel_residual_) STRAKE_RETURN_IF_ERROR(ResidualAddForward(ctx, stream.x, out.x, out.x));
  return out;
}

absl::Status MlpBlock::Recompute(const Context& ctx, const Context& kept,
                                 MlpBlockSaved* saved) const {
  // The stream has been summed into x.
  const Tensor x = saved->branch.norm.x;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, branch_.Input(kept, {.x = x}, &saved->branch));
  Tensor& g = saved->down_linear.linear.x;
  if (recompute_ == ActivationRecompute::kFull) {
    saved->up = AllocateUp(fused_ ? ctx : kept, x);
    g = AllocateActivation(kept, x);
    return Activate(kept, h, g, saved);
  }
  STRAKE_RETURN_IF_ERROR(up_.GatherInput(kept, h, &saved->up_linear));
  if (KeepsActivation(x)) return absl::OkStatus();
  g = AllocateActivation(kept, x);
  return ActivateUp(kept, saved->up, g);
}

absl::StatusOr<Tensor> MlpBlock::BackwardActivation(const Context& ctx, bool stays,
                                                    const Tensor& dg, const Tensor& u) const {
  if (fused_) return dg;  // the product has done it
  if (gated_) {
    // u is not needed any more.
    STRAKE_RETURN_IF_ERROR(GatedActivationBackward(ctx, activation_, dg, u, u));
    return u;
  }
  const Tensor& du = stays ? u : dg;
  STRAKE_RETURN_IF_ERROR(ActivationBackward(ctx, activation_, dg, u, du));
  return du;
}

absl::Status MlpBlock::RunBackward(const Context& ctx, const Context* kept, const Tensor& dy,
                                   const Tensor& dx, MlpBlockSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  const bool apart = kept != nullptr;
  if (recompute_ != ActivationRecompute::kNone) {
    STRAKE_RETURN_IF_ERROR(Recompute(ctx, apart ? *kept : ctx, saved));
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor d_out,
                          branch_.BackwardOutput(ctx, kept, dy, &saved->branch));
  // Waits at once: a row-parallel layer has nothing in flight here, but may have failed.
  const Tensor gelu_input = fused_ ? saved->up : Tensor();
  Tensor fused_du;
  if (apart && fused_ && up_.trained()) {
    fused_du = kept->arena().Allocate(saved->up.dtype(), saved->up.shape());
  }
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor dg,
      down_.BackwardInput(ctx, d_out, &saved->down_linear, gelu_input, kept, fused_du).Wait());
  if (!apart) STRAKE_RETURN_IF_ERROR(down_.BackwardWeight(ctx, d_out, saved->down_linear));
  STRAKE_ASSIGN_OR_RETURN(const Tensor du, BackwardActivation(ctx, apart, dg, saved->up));
  if (apart) saved->du = du;
  const Tensor kept_dh = branch_.AllocateInputGradient(kept, dx);
  Pending<Tensor> pending_dh = up_.BackwardInput(ctx, du, &saved->up_linear, kept, kept_dh);
  if (!apart) STRAKE_RETURN_IF_ERROR(up_.BackwardWeight(ctx, du, saved->up_linear));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());
  return branch_.BackwardInput(ctx, kept, dh, dx, &saved->branch);
}

absl::Status MlpBlock::Backward(const Context& ctx, const Tensor& dy, Tensor dx,
                                MlpBlockSaved* saved) const {
  return RunBackward(ctx, /*kept=*/nullptr, dy, dx, saved);
}

absl::Status MlpBlock::BackwardInput(const Context& ctx, const Context& kept, const Tensor& dy,
                                     Tensor dx, MlpBlockSaved* saved) const {
  return RunBackward(ctx, &kept, dy, dx, saved);
}

absl::Status MlpBlock::BackwardWeight(const Context& ctx, const MlpBlockSaved& saved) const {
  const ActivationScope scope(ctx.arena());
  STRAKE_RETURN_IF_ERROR(branch_.BackwardOutputWeight(ctx, saved.branch));
  STRAKE_RETURN_IF_ERROR(down_.BackwardWeight(ctx, saved.down_linear));
  STRAKE_RETURN_IF_ERROR(up_.BackwardWeight(ctx, saved.du, saved.up_linear));
  return branch_.BackwardInputWeight(ctx, saved.branch);
}

}  // namespace strake
