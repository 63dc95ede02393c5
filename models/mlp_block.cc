#include "models/mlp_block.h"

#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/swiglu.h"
#include "models/layer_parameters.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

ColumnParallelLinear MakeUp(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                            ParameterArena* arena) {
  const std::string name = LayerName(c, index) + "mlp.";
  const int64_t width = c.intermediate_size;
  if (c.family == ModelFamily::kGpt2) {
    return AddColumnParallelLinear(c, tp, arena, {{name + "c_fc", width}},
                                   {{"intermediate columns", width}}, c.hidden_size,
                                   c.initializer_range);
  }
  return AddColumnParallelLinear(c, tp, arena,
                                 {{name + "gate_proj", width}, {name + "up_proj", width}},
                                 GateUpSegments(width), c.hidden_size, c.initializer_range);
}

RowParallelLinear MakeDown(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                           ParameterArena* arena) {
  const bool gpt2 = c.family == ModelFamily::kGpt2;
  const std::string name = LayerName(c, index) + (gpt2 ? "mlp.c_proj" : "mlp.down_proj");
  return AddRowParallelLinear(c, tp, arena, name, {"intermediate rows", c.intermediate_size},
                              ResidualStddev(c));
}

}  // namespace

// Members are made in forward order, which is the parameters' order in the arena.
MlpBlock::MlpBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
                   ParameterArena* arena)
    : swiglu_(config.family == ModelFamily::kLlama),
      norm_(AddNorm(config, tp, arena,
                    LayerName(config, index) + (swiglu_ ? "post_attention_layernorm" : "ln_2"))),
      up_(MakeUp(config, index, tp, arena)),
      down_(MakeDown(config, index, tp, arena)) {}

MlpBlock MlpBlock::WithoutSequenceParallelism() const {
  MlpBlock plain = *this;
  plain.up_ = up_.WithoutSequenceParallelism();
  plain.down_ = down_.WithoutSequenceParallelism();
  return plain;
}

absl::StatusOr<ResidualStream> MlpBlock::Forward(const Context& ctx, const ResidualStream& stream,
                                                 MlpBlockSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h,
                          norm_.Forward(ctx, stream.x, stream.residual, &saved->norm));
  Tensor g;
  if (swiglu_) {
    STRAKE_ASSIGN_OR_RETURN(saved->up, up_.Forward(ctx, h, &saved->up_linear));
    g = ctx.arena().Allocate(h.dtype(), {saved->up.dim(0), saved->up.dim(1) / 2});
    STRAKE_RETURN_IF_ERROR(SwigluForward(ctx, saved->up, g));
  } else {
    STRAKE_ASSIGN_OR_RETURN(g, up_.Forward(ctx, h, &saved->up_linear, &saved->up));
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor o, down_.Forward(ctx, g, &saved->down_linear));
  return ResidualStream{.x = o, .residual = saved->norm.x};
}

absl::Status MlpBlock::Backward(const Context& ctx, Tensor dy, MlpBlockSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  // Waited for at once: a row-parallel layer has nothing in flight here, but may have failed.
  const Tensor gelu_input = swiglu_ ? Tensor() : saved->up;
  STRAKE_ASSIGN_OR_RETURN(Tensor du,
                          down_.BackwardInput(ctx, dy, &saved->down_linear, gelu_input).Wait());
  STRAKE_RETURN_IF_ERROR(down_.BackwardWeight(ctx, dy, saved->down_linear));
  if (swiglu_) {
    const Tensor dg = std::exchange(du, saved->up);  // u is not needed again
    STRAKE_RETURN_IF_ERROR(SwigluBackward(ctx, dg, saved->up, du));
  }
  Pending<Tensor> pending_dh = up_.BackwardInput(ctx, du, saved->up_linear);
  STRAKE_RETURN_IF_ERROR(up_.BackwardWeight(ctx, du, saved->up_linear));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());
  return norm_.Backward(ctx, dh, saved->norm, /*accumulate_dx=*/true, dy);
}

}  // namespace strake
