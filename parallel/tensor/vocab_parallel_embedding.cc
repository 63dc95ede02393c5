#include "parallel/tensor/vocab_parallel_embedding.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/embedding/embedding.h"
#include "glog/logging.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {

VocabParallelEmbedding::VocabParallelEmbedding(Parameter* table, int64_t vocab_size,
                                               const TensorParallel& tp)
    : table_(table), tp_(tp) {
  const VocabRange vocab = VocabShard(vocab_size, tp.size(), tp.rank());
  CHECK(table->shape.size() == 2 && table->shape[0] == vocab.held.size())
      << "[vocab_parallel_embedding] table " << ShapeString(table->shape) << " for a vocabulary of "
      << vocab_size << " over " << tp.size() << " ranks";
  slice_ = {.vocab_size = vocab_size, .begin = vocab.held.begin};
}

absl::StatusOr<VocabParallelEmbedding> VocabParallelEmbedding::FromFull(const Tensor& table,
                                                                        const Mesh& mesh,
                                                                        bool sequence_parallel) {
  CHECK_EQ(table.rank(), 2) << "[vocab_parallel_embedding] table " << table.ToString();
  const TensorParallel tp(mesh.communicator(MeshAxis::kTp), sequence_parallel);
  auto arena = std::make_shared<ParameterArena>();
  const WeightShards shards = WeightShards::Vocab(table.shape(), 0, tp.size());
  Parameter* parameter =
      AddShardedParameter({{"weight", table.dim(1)}}, shards, tp, true, {}, arena.get());
  STRAKE_RETURN_IF_ERROR(arena->Allocate(table.dtype(), /*with_gradients=*/true));
  shards.Slice(table, tp.rank(), parameter->value);
  VocabParallelEmbedding layer(parameter, table.dim(0), tp);
  layer.own_arena_ = std::move(arena);
  return layer;
}

VocabParallelEmbedding VocabParallelEmbedding::WithoutSequenceParallelism() const {
  VocabParallelEmbedding plain = *this;
  plain.tp_ = tp_.WithoutSequenceParallelism();
  return plain;
}

absl::StatusOr<Tensor> VocabParallelEmbedding::Forward(const Context& ctx,
                                                       const Tensor& tokens) const {
  const Tensor& table = table_->value;
  const int64_t n = tokens.dim(0), c = table.dim(1);
  const Tensor x = ctx.arena().Allocate(table.dtype(), {tp_.NumLocalTokens(n), c});
  // With sequence parallelism this rank's rows outlive the scope; the rows of all ranks do not.
  const ActivationScope scope(ctx.arena());
  const Tensor term = tp_.sequence_parallel() ? ctx.arena().Allocate(table.dtype(), {n, c}) : x;
  ctx.WillRead(*table_);
  STRAKE_RETURN_IF_ERROR(EmbeddingForward(ctx, tokens, slice_, table, term));
  return tp_.SumTokens(ctx, term, x).Wait();
}

absl::Status VocabParallelEmbedding::Backward(const Context& ctx, const Tensor& dx,
                                              const Tensor& tokens) const {
  if (table_->frozen) return absl::OkStatus();
  const ActivationScope scope(ctx.arena());
  STRAKE_ASSIGN_OR_RETURN(const Tensor full, tp_.GatherTokens(ctx, dx));
  STRAKE_RETURN_IF_ERROR(EmbeddingBackward(ctx, full, tokens, slice_, table_->grad));
  ctx.GradReady(*table_);
  return absl::OkStatus();
}

}  // namespace strake
