#include "models/attention_block.h"

#include <optional>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/attention/cached_attention.h"
#include "core/ops/rope/rope.h"
#include "glog/logging.h"
#include "models/layer_parameters.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

ColumnParallelLinear MakeQkv(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                             ParameterArena* arena) {
  const int64_t query = c.num_heads * c.head_dim, key = c.num_kv_heads * c.head_dim;
  const TensorNames& names = TensorNamesOf(c);
  return AddColumnParallelLinear(c, tp, arena,
                                 {{TensorName(names.query, index), query},
                                  {TensorName(names.key, index), key},
                                  {TensorName(names.value, index), key}},
                                 QkvSegments(c.num_heads, c.num_kv_heads, c.head_dim), c.qkv_bias);
}

RowParallelLinear MakeOut(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                          ParameterArena* arena) {
  return AddRowParallelLinear(c, tp, arena, TensorName(TensorNamesOf(c).attention_output, index),
                              {"query heads", c.num_heads, c.head_dim}, c.attention_output_bias);
}

AttentionHeads HeadsOf(const ModelConfig& c, const TensorParallel& tp) {
  const auto heads = AttentionHeadShard(c.num_heads, c.num_kv_heads, tp.size(), tp.rank());
  CHECK(heads.ok()) << heads.status();
  return *heads;
}

}  // namespace

AttentionBlock::AttentionBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
                               ParameterArena* arena, ActivationRecompute recompute)
    : recompute_(recompute),
      num_heads_(HeadsOf(config, tp).query.size()),
      num_kv_heads_(HeadsOf(config, tp).key_value.range.size()),
      head_dim_(config.head_dim),
      norm_(AddNorm(config, tp, arena, TensorName(TensorNamesOf(config).attention_norm, index))),
      qkv_(MakeQkv(config, index, tp, arena)),
      out_(MakeOut(config, index, tp, arena)) {
  norm_.set_layer("attention norm");
  qkv_.set_layer("qkv");
  out_.set_layer("attention out");
}

AttentionBlock AttentionBlock::WithoutSequenceParallelism() const {
  AttentionBlock plain = *this;
  plain.qkv_ = qkv_.WithoutSequenceParallelism();
  plain.out_ = out_.WithoutSequenceParallelism();
  return plain;
}

AttentionShape AttentionBlock::ShapeFor(int64_t num_tokens, int64_t seq_len) const {
  return {num_tokens / seq_len, seq_len, num_heads_, num_kv_heads_, head_dim_};
}

void AttentionBlock::AllocateHeads(const Context& ctx, int64_t num_rows, int64_t seq_len,
                                   AttentionBlockSaved* saved) const {
  ActivationArena& arena = ctx.arena();
  const int64_t num_tokens = qkv_.NumOutputRows(num_rows);
  const DType dtype = saved->norm.x.dtype();
  const AttentionShape shape = ShapeFor(num_tokens, seq_len);
  saved->shape = shape;
  saved->qkv = arena.Allocate(dtype, {num_tokens, (num_heads_ + 2 * num_kv_heads_) * head_dim_});
  saved->attention = arena.Allocate(dtype, {num_tokens, num_heads_ * head_dim_});
  saved->lse = arena.Allocate(AccumulationDType(dtype), {shape.batch, num_heads_, seq_len});
}

absl::StatusOr<Tensor> AttentionBlock::Project(const Context& ctx, const Tensor& h, int64_t seq_len,
                                               int64_t position_offset, const Tensor& rope_table,
                                               LinearSaved* qkv_saved, const Tensor& out) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor qkv,
                          qkv_.Forward(ctx, h, qkv_saved, /*gelu_input=*/nullptr, out));
  if (rope_table.defined()) {
    STRAKE_RETURN_IF_ERROR(RopeForward(ctx, rope_table, {num_heads_ + num_kv_heads_, head_dim_},
                                       seq_len, position_offset, qkv));
  }
  return qkv;
}

absl::Status AttentionBlock::Attend(const Context& ctx, const Tensor& h, const Tensor& rope_table,
                                    AttentionBlockSaved* saved) const {
  STRAKE_RETURN_IF_ERROR(Project(ctx, h, saved->shape.seq_len, /*position_offset=*/0, rope_table,
                                 &saved->qkv_linear, saved->qkv)
                             .status());
  return CausalAttentionForward(ctx, saved->qkv, saved->shape, saved->attention, saved->lse);
}

absl::StatusOr<ResidualStream> AttentionBlock::Forward(const Context& ctx,
                                                       const ResidualStream& stream,
                                                       int64_t seq_len, const Tensor& rope_table,
                                                       AttentionBlockSaved* saved) const {
  // Tensors that are kept, then scratch.
  const int64_t num_rows = stream.x.dim(0);
  const Tensor o = ctx.arena().Allocate(stream.x.dtype(), stream.x.shape());
  saved->norm.x = stream.x;
  if (recompute_ != ActivationRecompute::kFull) AllocateHeads(ctx, num_rows, seq_len, saved);
  std::optional<ActivationScope> dropped;
  if (recompute_ != ActivationRecompute::kNone) dropped.emplace(ctx.arena());
  if (recompute_ == ActivationRecompute::kFull) AllocateHeads(ctx, num_rows, seq_len, saved);

  STRAKE_ASSIGN_OR_RETURN(const Tensor h,
                          norm_.Forward(ctx, stream.x, stream.residual, &saved->norm));
  STRAKE_RETURN_IF_ERROR(Attend(ctx, h, rope_table, saved));
  STRAKE_RETURN_IF_ERROR(out_.Forward(ctx, saved->attention, &saved->out_linear, o).status());
  if (dropped.has_value()) saved->qkv_linear.x = Tensor();
  if (recompute_ == ActivationRecompute::kFull) {
    saved->qkv = saved->attention = saved->lse = saved->out_linear.linear.x = Tensor();
  }
  return ResidualStream{.x = o, .residual = saved->norm.x};
}

absl::Status AttentionBlock::Recompute(const Context& ctx, const Tensor& rope_table,
                                       AttentionBlockSaved* saved) const {
  // The stream has been summed into x.
  const Tensor x = saved->norm.x;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h,
                          norm_.Forward(ctx, x, /*residual=*/Tensor(), &saved->norm));
  if (recompute_ == ActivationRecompute::kSelective) {
    return qkv_.GatherInput(ctx, h, &saved->qkv_linear);
  }
  AllocateHeads(ctx, x.dim(0), saved->shape.seq_len, saved);
  STRAKE_RETURN_IF_ERROR(Attend(ctx, h, rope_table, saved));
  saved->out_linear.linear.x = saved->attention;
  return absl::OkStatus();
}

absl::Status AttentionBlock::Backward(const Context& ctx, const Tensor& rope_table, Tensor dy,
                                      AttentionBlockSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  if (recompute_ != ActivationRecompute::kNone) {
    STRAKE_RETURN_IF_ERROR(Recompute(ctx, rope_table, saved));
  }
  // Waits at once: a row-parallel layer has nothing in flight here, but may have failed.
  STRAKE_ASSIGN_OR_RETURN(const Tensor da, out_.BackwardInput(ctx, dy, &saved->out_linear).Wait());
  STRAKE_RETURN_IF_ERROR(out_.BackwardWeight(ctx, dy, saved->out_linear));

  const Tensor dqkv = ctx.arena().Allocate(saved->qkv.dtype(), saved->qkv.shape());
  STRAKE_RETURN_IF_ERROR(CausalAttentionBackward(ctx, da, saved->qkv, saved->attention, saved->lse,
                                                 saved->shape, dqkv));
  if (rope_table.defined()) {
    STRAKE_RETURN_IF_ERROR(RopeBackward(ctx, rope_table, {num_heads_ + num_kv_heads_, head_dim_},
                                        saved->shape.seq_len, dqkv));
  }
  Pending<Tensor> pending_dh = qkv_.BackwardInput(ctx, dqkv, saved->qkv_linear);
  STRAKE_RETURN_IF_ERROR(qkv_.BackwardWeight(ctx, dqkv, saved->qkv_linear));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());
  return norm_.Backward(ctx, dh, saved->norm, /*accumulate_dx=*/true, dy);
}

absl::StatusOr<ResidualStream> AttentionBlock::ForwardCached(const Context& ctx,
                                                             const ResidualStream& stream,
                                                             const CachedPositions& at,
                                                             Tensor k_cache, Tensor v_cache) const {
  const int64_t num_tokens = stream.x.dim(0);
  NormSaved norm_saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h,
                          norm_.Forward(ctx, stream.x, stream.residual, &norm_saved));
  STRAKE_ASSIGN_OR_RETURN(const Tensor qkv,
                          Project(ctx, h, num_tokens, at.rope_offset, at.rope_table,
                                  /*qkv_saved=*/nullptr));
  const Tensor a = ctx.arena().Allocate(qkv.dtype(), {num_tokens, num_heads_ * head_dim_});
  STRAKE_RETURN_IF_ERROR(CachedAttentionForward(ctx, qkv, ShapeFor(num_tokens, num_tokens), at.past,
                                                k_cache, v_cache, a, at.past_on_gpu));
  STRAKE_ASSIGN_OR_RETURN(const Tensor o, out_.Forward(ctx, a, /*saved=*/nullptr));
  return ResidualStream{.x = o, .residual = norm_saved.x};
}

}  // namespace strake
