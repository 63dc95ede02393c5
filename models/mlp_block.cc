#include "models/mlp_block.h"

#include <string>

#include "core/base/status_macros.h"
#include "core/ops/gelu.h"
#include "core/ops/residual_add.h"
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

absl::StatusOr<Tensor> MlpBlock::Forward(const Context& ctx, const Tensor& x,
                                         MlpBlockSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, norm_.Forward(ctx, x, /*residual=*/{}, &saved->norm));
  STRAKE_ASSIGN_OR_RETURN(saved->up, up_.Forward(ctx, h, &saved->up_linear));
  const int64_t width = saved->up.dim(1) / (swiglu_ ? 2 : 1);
  const Tensor g = ctx.arena().Allocate(x.dtype(), {saved->up.dim(0), width});
  STRAKE_RETURN_IF_ERROR(swiglu_ ? SwigluForward(ctx, saved->up, g)
                                 : GeluForward(ctx, saved->up, g));
  STRAKE_ASSIGN_OR_RETURN(const Tensor y, down_.Forward(ctx, g, &saved->down_linear));
  STRAKE_RETURN_IF_ERROR(ResidualAddForward(ctx, y, x, y));
  return y;
}

absl::Status MlpBlock::Backward(const Context& ctx, Tensor dy, MlpBlockSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  // Waited for at once: a row-parallel layer has nothing in flight here, but may have failed.
  STRAKE_ASSIGN_OR_RETURN(const Tensor dg,
                          down_.BackwardInput(ctx, dy, &saved->down_linear).Wait());
  STRAKE_RETURN_IF_ERROR(down_.BackwardWeight(ctx, dy, saved->down_linear));

  const Tensor du = saved->up;  // not needed again: its gradient takes its place
  STRAKE_RETURN_IF_ERROR(swiglu_ ? SwigluBackward(ctx, dg, saved->up, du)
                                 : GeluBackward(ctx, dg, saved->up, du));
  Pending<Tensor> pending_dh = up_.BackwardInput(ctx, du, saved->up_linear);
  STRAKE_RETURN_IF_ERROR(up_.BackwardWeight(ctx, du, saved->up_linear));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());
  return norm_.Backward(ctx, dh, saved->norm, /*accumulate_dx=*/true, dy);
}

}  // namespace strake
