#include "parallel/tensor/column_parallel_linear.h"

#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {

absl::StatusOr<ColumnParallelLinear> ColumnParallelLinear::FromFull(
    const Tensor& weight, const Tensor& bias, const Mesh& mesh, bool sequence_parallel,
    const std::vector<ShardSegment>& segments) {
  CHECK(weight.rank() == 2 && (!bias.defined() || bias.shape() == Shape{weight.dim(1)}))
      << "[column_parallel_linear] weight " << weight.ToString() << ", bias " << bias.ToString();
  const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sequence_parallel);
  const int64_t out = weight.dim(1);
  const std::vector<ShardSegment> plain = {{"columns", out}};
  auto arena = std::make_shared<ParameterArena>();
  const auto shards_of = [&](const Shape& shape) {
    return WeightShards::Split(shape, -1, segments.empty() ? plain : segments, tp.size());
  };
  STRAKE_ASSIGN_OR_RETURN(const WeightShards weight_shards, shards_of(weight.shape()));
  STRAKE_ASSIGN_OR_RETURN(const WeightShards bias_shards, shards_of({out}));
  Parameter* w = AddShardedParameter({{"weight", out}}, weight_shards, tp, true, {}, arena.get());
  const Parameter* b = nullptr;
  if (bias.defined()) {
    b = AddShardedParameter({{"bias", out}}, bias_shards, tp, false, {}, arena.get());
  }
  STRAKE_RETURN_IF_ERROR(arena->Allocate(weight.dtype(), /*with_gradients=*/true));
  weight_shards.Slice(weight, tp.rank(), w->value);
  if (b != nullptr) bias_shards.Slice(bias, tp.rank(), b->value);
  ColumnParallelLinear layer(w, b, tp);
  layer.own_arena_ = std::move(arena);
  return layer;
}

ColumnParallelLinear ColumnParallelLinear::WithoutSequenceParallelism() const {
  ColumnParallelLinear plain = *this;
  plain.tp_ = tp_.WithoutSequenceParallelism();
  return plain;
}

absl::StatusOr<Tensor> ColumnParallelLinear::Forward(const Context& ctx, const Tensor& x,
                                                     LinearSaved* saved, Tensor* gelu_input,
                                                     const Tensor& y) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor full, tp_.GatherTokens(ctx, x));
  return linear_.Forward(ctx, full, saved, gelu_input, y);
}

absl::Status ColumnParallelLinear::GatherInput(const Context& ctx, const Tensor& x,
                                               LinearSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(saved->x, tp_.GatherTokens(ctx, x));
  return absl::OkStatus();
}

int64_t ColumnParallelLinear::NumOutputRows(int64_t num_rows) const {
  return tp_.sequence_parallel() ? num_rows * tp_.size() : num_rows;
}

Pending<Tensor> ColumnParallelLinear::BackwardInput(const Context& ctx, const Tensor& dy,
                                                    LinearSaved* saved, const Context* kept,
                                                    Tensor dx) const {
  // The rows of all ranks under sequence parallelism, where dx has this rank's.
  const Tensor own = tp_.sequence_parallel() ? Tensor() : dx;
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor all,
      linear_.BackwardInput(ctx, dy, saved, /*gelu_input=*/Tensor(), kept, own).Wait());
  return dx.defined() ? tp_.SumTokens(ctx, all, dx) : tp_.SumTokensInPlace(ctx, all);
}

absl::Status ColumnParallelLinear::BackwardWeight(const Context& ctx, const Tensor& dy,
                                                  const LinearSaved& saved) const {
  return linear_.BackwardWeight(ctx, dy, saved);
}

}  // namespace strake
