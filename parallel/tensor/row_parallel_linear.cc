#include "parallel/tensor/row_parallel_linear.h"

#include <cstdint>
#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/bias_add/bias_add.h"
#include "core/ops/copy/copy.h"
#include "glog/logging.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {

RowParallelLinear::RowParallelLinear(Parameter* weight, const Parameter* bias,
                                     const TensorParallel& tp)
    : linear_(weight, /*bias=*/nullptr),
      tp_(tp),
      weight_(weight),
      bias_(bias),
      bias_follows_sum_(bias != nullptr && tp.size() > 1) {
  CHECK(bias == nullptr || bias->shape == Shape{linear_.out_features()})
      << "[row_parallel_linear] weight " << ShapeString(weight->shape) << ", bias "
      << ShapeString(bias->shape);
  if (tp.size() == 1) linear_ = Linear(weight, bias);
}

absl::StatusOr<RowParallelLinear> RowParallelLinear::FromFull(const Tensor& weight,
                                                              const Tensor& bias, const Mesh& mesh,
                                                              bool sequence_parallel) {
  CHECK(weight.rank() == 2 && (!bias.defined() || bias.shape() == Shape{weight.dim(1)}))
      << "[row_parallel_linear] weight " << weight.ToString() << ", bias " << bias.ToString();
  const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sequence_parallel);
  const int64_t in = weight.dim(0), out = weight.dim(1);
  auto arena = std::make_shared<ParameterArena>();
  STRAKE_ASSIGN_OR_RETURN(const WeightShards shards,
                          WeightShards::Split(weight.shape(), 0, {{"rows", in}}, tp.size()));
  Parameter* w = AddShardedParameter({{"weight", out}}, shards, tp, true, {}, arena.get());
  const Parameter* b = nullptr;
  if (bias.defined()) {
    b = AddReplicatedParameter(
        {{"bias", out}}, {out}, tp,
        sequence_parallel ? ReplicatedGrad::kPartial : ReplicatedGrad::kWhole, false, {},
        arena.get());
  }
  STRAKE_RETURN_IF_ERROR(arena->Allocate(weight.dtype(), /*with_gradients=*/true));
  shards.Slice(weight, tp.rank(), w->value);
  if (b != nullptr) WeightShards::Replicated({out}, tp.size()).Slice(bias, tp.rank(), b->value);
  RowParallelLinear layer(w, b, tp);
  layer.own_arena_ = std::move(arena);
  return layer;
}

RowParallelLinear RowParallelLinear::WithoutSequenceParallelism() const {
  RowParallelLinear plain = *this;
  plain.tp_ = tp_.WithoutSequenceParallelism();
  return plain;
}

absl::StatusOr<Tensor> RowParallelLinear::Forward(const Context& ctx, const Tensor& x,
                                                  RowParallelLinearSaved* saved, Tensor y) const {
  LinearSaved* const linear_saved = saved ? &saved->linear : nullptr;
  if (!y.defined()) {
    y = ctx.arena().Allocate(x.dtype(), {tp_.NumLocalTokens(x.dim(0)), linear_.out_features()});
  }
  if (tp_.sequence_parallel()) {
    // This rank's rows outlive the scope; the rows of all ranks do not.
    const ActivationScope scope(ctx.arena());
    STRAKE_ASSIGN_OR_RETURN(const Tensor term, linear_.Forward(ctx, x, linear_saved));
    STRAKE_RETURN_IF_ERROR(tp_.SumTokens(ctx, term, y).Wait().status());
  } else {
    STRAKE_RETURN_IF_ERROR(
        linear_.Forward(ctx, x, linear_saved, /*gelu_input=*/nullptr, y).status());
    STRAKE_RETURN_IF_ERROR(tp_.SumTokens(ctx, y, y).Wait().status());
  }
  const LayerScope layer(ctx, linear_.layer());
  if (!bias_follows_sum_) return y;
  ctx.WillRead(*bias_);
  STRAKE_RETURN_IF_ERROR(BiasAddForward(ctx, y, bias_->value, y));
  return y;
}

Pending<Tensor> RowParallelLinear::BackwardInput(const Context& ctx, const Tensor& dy,
                                                 RowParallelLinearSaved* saved,
                                                 const Tensor& gelu_input, const Context* kept,
                                                 Tensor dx) const {
  if (kept != nullptr && linear_.trained()) {
    STRAKE_ASSIGN_OR_RETURN(saved->dy, Keep(*kept, dy));
  } else {
    STRAKE_ASSIGN_OR_RETURN(saved->dy, tp_.GatherTokens(ctx, dy));
  }
  return linear_.BackwardInput(ctx, saved->dy, &saved->linear, gelu_input, kept, std::move(dx));
}

absl::StatusOr<Tensor> RowParallelLinear::Keep(const Context& kept, const Tensor& dy) const {
  if (tp_.sequence_parallel()) return tp_.GatherTokens(kept, dy);
  const Tensor copy = kept.arena().Allocate(dy.dtype(), dy.shape());
  STRAKE_RETURN_IF_ERROR(Copy(kept, dy, copy));
  return copy;
}

absl::Status RowParallelLinear::BackwardWeight(const Context& ctx,
                                               const RowParallelLinearSaved& saved) const {
  if (!linear_.trained()) return absl::OkStatus();
  CHECK(saved.dy.defined()) << "[row_parallel_linear] BackwardWeight() before BackwardInput()";
  const int64_t num_tokens = saved.dy.dim(0), begin = tp_.FirstLocalToken(num_tokens);
  const Tensor local = saved.dy.Rows(begin, begin + tp_.NumLocalTokens(num_tokens));
  return BackwardWeight(ctx, local, saved);
}

absl::Status RowParallelLinear::BackwardWeight(const Context& ctx, const Tensor& dy,
                                               const RowParallelLinearSaved& saved) const {
  CHECK(saved.dy.defined() && dy.dim(0) == tp_.NumLocalTokens(saved.dy.dim(0)))
      << "[row_parallel_linear] dy " << dy.ToString() << ", BackwardInput's of all tokens "
      << saved.dy.ToString() << ", rank " << tp_.rank() << " of " << tp_.size()
      << (tp_.sequence_parallel() ? ", sequence-parallel" : "");
  const LayerScope layer(ctx, linear_.layer());
  if (bias_follows_sum_ && !bias_->frozen) {
    STRAKE_RETURN_IF_ERROR(BiasAddBackward(ctx, dy, bias_->grad));
    ctx.GradReady(*bias_);
  }
  return linear_.BackwardWeight(ctx, saved.dy, saved.linear);
}

}  // namespace strake
