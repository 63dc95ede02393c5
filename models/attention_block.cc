#include "models/attention_block.h"

#include <optional>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/ops/attention/cached_attention.h"
#include "glog/logging.h"
#include "models/layer_parameters.h"
#include "parallel/context/context_attention.h"
#include "parallel/context/context_operands.h"
#include "parallel/tensor/shard.h"

namespace strake {
namespace {

ColumnParallelLinear MakeQkv(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                             ParameterArena* arena, ParameterArena* adapters) {
  const int64_t query = c.num_heads * c.head_dim, key = c.num_kv_heads * c.head_dim;
  const TensorNames& names = TensorNamesOf(c);
  return AddColumnParallelLinear(c, tp, arena, adapters,
                                 {{TensorName(names.query, index), query},
                                  {TensorName(names.key, index), key},
                                  {TensorName(names.value, index), key}},
                                 QkvSegments(c.num_heads, c.num_kv_heads, c.head_dim), c.qkv_bias,
                                 names.interleaved_heads && c.num_kv_heads == c.num_heads);
}

RowParallelLinear MakeOut(const ModelConfig& c, int64_t index, const TensorParallel& tp,
                          ParameterArena* arena, ParameterArena* adapters) {
  return AddRowParallelLinear(c, tp, arena, adapters,
                              TensorName(TensorNamesOf(c).attention_output, index),
                              {"query heads", c.num_heads, c.head_dim}, c.attention_output_bias);
}

double ScoreScale(const ModelConfig& c, int64_t index) {
  const double scale = AttentionShape{.head_dim = c.head_dim, .score_scale = c.score_scale}.Scale();
  if (c.score_scale_by_layer) return scale / double(index + 1);
  return c.score_scale;
}

AttentionShape ShapeOf(const ModelConfig& c, int64_t index, const TensorParallel& tp) {
  const auto heads = AttentionHeadShard(c.num_heads, c.num_kv_heads, tp.size(), tp.rank());
  CHECK(heads.ok()) << heads.status();
  return {.num_heads = heads->query.size(),
          .num_kv_heads = heads->key_value.range.size(),
          .head_dim = c.head_dim,
          .window = c.AttentionOf(index).window,
          .score_scale = ScoreScale(c, index),
          .score_softcap = c.score_softcap};
}

}  // namespace

AttentionBlock::AttentionBlock(const ModelConfig& config, int64_t index, const TensorParallel& tp,
                               ParameterArena* arena, ActivationRecompute recompute,
                               ParameterArena* adapters, const ContextParallel& cp)
    : recompute_(recompute),
      cp_(cp),
      shape_(ShapeOf(config, index, tp)),
      rope_heads_{.num_heads = shape_.num_heads + shape_.num_kv_heads, .head_dim = config.head_dim},
      branch_(config, tp, arena, TensorNamesOf(config).attention_norm, index, "attention norm"),
      qkv_(MakeQkv(config, index, tp, arena, adapters)),
      qk_norm_(AddQkNorm(config, index, tp, arena)),
      out_(MakeOut(config, index, tp, arena, adapters)) {
  const std::optional<RopeConfig>& rope = config.AttentionOf(index).rope;
  rope_heads_.interleaved = rope.has_value() && rope->interleaved;
  branch_.AddPostNorm(config, tp, arena, TensorNamesOf(config).attention_post_norm, index,
                      "attention post norm");
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
  AttentionShape shape = shape_;
  shape.batch = num_tokens / seq_len;
  shape.seq_len = seq_len;
  return shape;
}

void AttentionBlock::AllocateHeads(const Context& ctx, const Context& kept, const Tensor& x,
                                   int64_t seq_len, AttentionBlockSaved* saved) const {
  ActivationArena& arena = ctx.arena();
  const int64_t num_tokens = qkv_.NumOutputRows(x.dim(0));
  const AttentionShape shape = ShapeFor(num_tokens, seq_len);
  saved->shape = shape;
  saved->qkv = arena.Allocate(
      x.dtype(), {num_tokens, (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim});
  if (qk_norm_.has_value()) qk_norm_->Allocate(kept, saved->qkv, &saved->qk_norm);
  saved->attention =
      kept.arena().Allocate(x.dtype(), {num_tokens, shape.num_heads * shape.head_dim});
  saved->lse =
      arena.Allocate(AccumulationDType(x.dtype()), {shape.batch, shape.num_heads, seq_len});
}

absl::Status AttentionBlock::NormalizeHeads(const Context& ctx, const Tensor& qkv,
                                            QkNormSaved* saved) const {
  return qk_norm_.has_value() ? qk_norm_->Forward(ctx, qkv, saved) : absl::OkStatus();
}

absl::Status AttentionBlock::RotateHeads(const Context& ctx, const Tensor& qkv, int64_t seq_len,
                                         int64_t position_offset, const Tensor& rope_table,
                                         const Tensor& positions) const {
  if (!rope_table.defined()) return absl::OkStatus();
  return RopeForward(ctx, rope_table, rope_heads_, seq_len, position_offset, qkv, positions);
}

absl::Status AttentionBlock::Attend(const Context& ctx, const Tensor& h, const Tensor& rope_table,
                                    AttentionBlockSaved* saved) const {
  STRAKE_RETURN_IF_ERROR(
      qkv_.Forward(ctx, h, &saved->qkv_linear, /*gelu_input=*/nullptr, saved->qkv).status());
  STRAKE_RETURN_IF_ERROR(NormalizeHeads(ctx, saved->qkv, &saved->qk_norm));
  STRAKE_RETURN_IF_ERROR(RotateHeads(ctx, saved->qkv, saved->shape.seq_len, /*position_offset=*/0,
                                     rope_table, saved->documents.positions));
  return ContextAttentionForward(ctx, ContextOf(*saved), saved->qkv, saved->shape, saved->attention,
                                 saved->lse, saved->documents);
}

absl::StatusOr<ResidualStream> AttentionBlock::Forward(const Context& ctx,
                                                       const ResidualStream& stream,
                                                       int64_t seq_len, const Tensor& rope_table,
                                                       AttentionBlockSaved* saved,
                                                       const Documents& documents) const {
  saved->documents = documents;
  // Tensors that are kept, then scratch.
  const Tensor& x = stream.x;
  const Tensor o = ctx.arena().Allocate(x.dtype(), x.shape());
  if (recompute_ != ActivationRecompute::kFull) AllocateHeads(ctx, ctx, x, seq_len, saved);
  std::optional<ActivationScope> dropped;
  if (recompute_ != ActivationRecompute::kNone) dropped.emplace(ctx.arena());
  if (recompute_ == ActivationRecompute::kFull) AllocateHeads(ctx, ctx, x, seq_len, saved);

  STRAKE_ASSIGN_OR_RETURN(const Tensor h, branch_.Input(ctx, stream, &saved->branch));
  STRAKE_RETURN_IF_ERROR(Attend(ctx, h, rope_table, saved));
  STRAKE_RETURN_IF_ERROR(out_.Forward(ctx, saved->attention, &saved->out_linear, o).status());
  if (dropped.has_value()) saved->qkv_linear.x = Tensor();
  if (recompute_ == ActivationRecompute::kFull) {
    saved->qkv = saved->attention = saved->lse = saved->out_linear.linear.x = Tensor();
    saved->qk_norm = {};
  }
  dropped.reset();
  return branch_.Output(ctx, o, &saved->branch);
}

absl::Status AttentionBlock::Recompute(const Context& ctx, const Context& kept,
                                       const Tensor& rope_table, AttentionBlockSaved* saved) const {
  // The stream has been summed into x.
  const Tensor x = saved->branch.norm.x;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, branch_.Input(kept, {.x = x}, &saved->branch));
  if (recompute_ == ActivationRecompute::kSelective) {
    return qkv_.GatherInput(kept, h, &saved->qkv_linear);
  }
  AllocateHeads(ctx, kept, x, saved->shape.seq_len, saved);
  STRAKE_RETURN_IF_ERROR(Attend(kept, h, rope_table, saved));
  saved->out_linear.linear.x = saved->attention;
  return absl::OkStatus();
}

absl::Status AttentionBlock::RunBackward(const Context& ctx, const Context* kept,
                                         const Tensor& rope_table, const Tensor& dy,
                                         const Tensor& dx, AttentionBlockSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  const bool apart = kept != nullptr;
  const Context& stays = apart ? *kept : ctx;
  if (recompute_ != ActivationRecompute::kNone) {
    STRAKE_RETURN_IF_ERROR(Recompute(ctx, stays, rope_table, saved));
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor d_out,
                          branch_.BackwardOutput(ctx, kept, dy, &saved->branch));
  // Waits at once: a row-parallel layer has nothing in flight here, but may have failed.
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor da,
      out_.BackwardInput(ctx, d_out, &saved->out_linear, /*gelu_input=*/Tensor(), kept).Wait());
  if (!apart) STRAKE_RETURN_IF_ERROR(out_.BackwardWeight(ctx, d_out, saved->out_linear));

  ActivationArena& dqkv_arena = qkv_.trained() ? stays.arena() : ctx.arena();
  const Tensor dqkv = dqkv_arena.Allocate(saved->qkv.dtype(), saved->qkv.shape());
  STRAKE_RETURN_IF_ERROR(ContextAttentionBackward(ctx, ContextOf(*saved), da, saved->qkv,
                                                  saved->attention, saved->lse, saved->shape, dqkv,
                                                  saved->documents));
  if (rope_table.defined()) {
    STRAKE_RETURN_IF_ERROR(RopeBackward(ctx, rope_table, rope_heads_, saved->shape.seq_len, dqkv,
                                        saved->documents.positions));
  }
  if (qk_norm_.has_value()) {
    STRAKE_RETURN_IF_ERROR(apart ? qk_norm_->BackwardInput(ctx, *kept, &saved->qk_norm, dqkv)
                                 : qk_norm_->Backward(ctx, saved->qk_norm, dqkv));
  }
  if (apart) saved->dqkv = dqkv;
  const Tensor kept_dh = branch_.AllocateInputGradient(kept, dx);
  Pending<Tensor> pending_dh = qkv_.BackwardInput(ctx, dqkv, &saved->qkv_linear, kept, kept_dh);
  if (!apart) STRAKE_RETURN_IF_ERROR(qkv_.BackwardWeight(ctx, dqkv, saved->qkv_linear));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());
  return branch_.BackwardInput(ctx, kept, dh, dx, &saved->branch);
}

absl::Status AttentionBlock::Backward(const Context& ctx, const Tensor& rope_table,
                                      const Tensor& dy, Tensor dx,
                                      AttentionBlockSaved* saved) const {
  return RunBackward(ctx, /*kept=*/nullptr, rope_table, dy, dx, saved);
}

absl::Status AttentionBlock::BackwardInput(const Context& ctx, const Context& kept,
                                           const Tensor& rope_table, const Tensor& dy, Tensor dx,
                                           AttentionBlockSaved* saved) const {
  return RunBackward(ctx, &kept, rope_table, dy, dx, saved);
}

absl::Status AttentionBlock::BackwardWeight(const Context& ctx,
                                            const AttentionBlockSaved& saved) const {
  const ActivationScope scope(ctx.arena());
  STRAKE_RETURN_IF_ERROR(branch_.BackwardOutputWeight(ctx, saved.branch));
  STRAKE_RETURN_IF_ERROR(out_.BackwardWeight(ctx, saved.out_linear));
  if (qk_norm_.has_value()) {
    STRAKE_RETURN_IF_ERROR(qk_norm_->BackwardWeight(ctx, saved.qk_norm));
  }
  STRAKE_RETURN_IF_ERROR(qkv_.BackwardWeight(ctx, saved.dqkv, saved.qkv_linear));
  return branch_.BackwardInputWeight(ctx, saved.branch);
}

absl::Status AttentionBlock::GatherKeys(const Context& ctx, absl::Span<const CachedSequence> chunks,
                                        const Tensor& qkv) const {
  const ActivationScope scope(ctx.arena());
  const int64_t columns = shape_.num_kv_heads * shape_.head_dim, rows = qkv.dim(0);
  const int64_t size = chunks[0].num_tokens;
  const Tensor own = ctx.arena().Allocate(qkv.dtype(), {rows, 2 * columns});
  STRAKE_RETURN_IF_ERROR(
      CopyColumns(ctx, qkv, qkv.dim(1) - 2 * columns, 2 * columns, own, /*to_column=*/0));
  const Tensor all = ctx.arena().Allocate(qkv.dtype(), {cp_.size() * rows, 2 * columns});
  if (!ctx.dry_run()) {
    STRAKE_RETURN_IF_ERROR(cp_.communicator().AllGather(own, all).Wait().status());
  }
  const int64_t past = chunks[0].past - cp_.chunks().Of(cp_.size() * rows)[0].begin;
  for (int rank = 0; rank < cp_.size(); ++rank) {
    int64_t row = rank * rows;
    for (const ShardRange& chunk : SequenceChunks{rank, cp_.size()}.Of(cp_.size() * rows)) {
      const int64_t at = past + chunk.begin;
      const Tensor kv = all.Rows(row, row + size);
      row += size;
      STRAKE_RETURN_IF_ERROR(
          CopyColumns(ctx, kv, 0, columns, chunks[0].k_cache.Rows(at, at + size), 0));
      STRAKE_RETURN_IF_ERROR(
          CopyColumns(ctx, kv, columns, columns, chunks[0].v_cache.Rows(at, at + size), 0));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ResidualStream> AttentionBlock::ForwardCached(
    const Context& ctx, const ResidualStream& stream, absl::Span<const CachedSequence> sequences,
    bool are_chunks) const {
  ResidualBranchSaved branch_saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, branch_.Input(ctx, stream, &branch_saved));
  STRAKE_ASSIGN_OR_RETURN(const Tensor qkv, qkv_.Forward(ctx, h, /*saved=*/nullptr));
  STRAKE_RETURN_IF_ERROR(NormalizeHeads(ctx, qkv, /*saved=*/nullptr));
  const Tensor a =
      ctx.arena().Allocate(qkv.dtype(), {qkv.dim(0), shape_.num_heads * shape_.head_dim});
  // Calls body(sequence, its rows of qkv, its rows of a).
  const auto for_each = [&](auto body) -> absl::Status {
    int64_t begin = 0;
    for (const CachedSequence& sequence : sequences) {
      const int64_t end = begin + sequence.num_tokens;
      STRAKE_RETURN_IF_ERROR(body(sequence, qkv.Rows(begin, end), a.Rows(begin, end)));
      begin = end;
    }
    CHECK_EQ(begin, qkv.dim(0)) << "[attention_block] tokens of the sequences, rows of the stream";
    return absl::OkStatus();
  };
  STRAKE_RETURN_IF_ERROR(for_each([&](const CachedSequence& s, const Tensor& rows, const Tensor&) {
    return RotateHeads(ctx, rows, s.num_tokens, s.rope_offset, s.rope_table);
  }));
  if (are_chunks) STRAKE_RETURN_IF_ERROR(GatherKeys(ctx, sequences, qkv));
  STRAKE_RETURN_IF_ERROR(
      for_each([&](const CachedSequence& s, const Tensor& rows, const Tensor& y) {
        return CachedAttentionForward(ctx, rows, ShapeFor(s.num_tokens, s.num_tokens), s.past,
                                      s.k_cache, s.v_cache, y, s.past_on_gpu);
      }));
  STRAKE_ASSIGN_OR_RETURN(const Tensor o, out_.Forward(ctx, a, /*saved=*/nullptr));
  return branch_.Output(ctx, o, &branch_saved);
}

}  // namespace strake
