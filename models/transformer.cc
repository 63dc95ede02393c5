#include "models/transformer.h"

#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/copy/copy.h"
#include "core/ops/embedding/position_embedding.h"
#include "core/ops/rope/rope.h"
#include "glog/logging.h"
#include "models/layer_parameters.h"
#include "parallel/tensor/shard.h"
#include "parallel/tensor/sharded_parameter.h"

namespace strake {
namespace {

// [V, C]: the table of the embedding, or of the head, which applies it transposed, so that they can
// share it.
Parameter* AddTokenTable(const ModelConfig& c, const TensorParallel& tp, const std::string& name,
                         ParameterArena* arena) {
  return AddShardedParameter({{name + ".weight", c.hidden_size}},
                             WeightShards::Vocab({c.vocab_size, c.hidden_size}, 0, tp.size()), tp,
                             true, {.stddev = c.initializer_range}, arena);
}

const Parameter* AddPositionTable(const ModelConfig& c, const TensorParallel& tp,
                                  ParameterArena* arena) {
  if (!c.learned_positions) return nullptr;
  const std::string name = TensorName(TensorNamesOf(c).position_embedding);
  return AddReplicatedParameter({{name + ".weight", c.hidden_size}},
                                {c.max_positions, c.hidden_size}, tp, ResidualGrad(tp), true,
                                {.stddev = c.initializer_range}, arena);
}

HeadLoss AddHead(const ModelConfig& c, const TensorParallel& tp,
                 const VocabParallelEmbedding& embedding, const LogitsChunk& chunk,
                 ParameterArena* arena) {
  if (c.tie_word_embeddings) {
    return HeadLoss(&embedding.table(), WeightOwnership::kShared, embedding.slice(), tp, chunk);
  }
  return HeadLoss(AddTokenTable(c, tp, TensorName(TensorNamesOf(c).head), arena),
                  WeightOwnership::kOwned, embedding.slice(), tp, chunk);
}

}  // namespace

absl::StatusOr<KvCache> KvCache::Create(const Transformer& model, int64_t max_tokens) {
  KvCache cache = DryRun(model, max_tokens);
  for (std::vector<Tensor>* tensors : {&cache.keys_, &cache.values_}) {
    for (Tensor& tensor : *tensors) {
      STRAKE_ASSIGN_OR_RETURN(
          DeviceBuffer buffer,
          DeviceBuffer::Create(tensor.device(), tensor.dtype(), tensor.shape()));
      tensor = buffer.tensor();
      cache.memory_.push_back(std::move(buffer));
    }
  }
  return cache;
}

KvCache KvCache::DryRun(const Transformer& model, int64_t max_tokens) {
  const ModelConfig& c = model.config();
  const TensorParallel& tp = model.tensor_parallel();
  const auto heads = AttentionHeadShard(c.num_heads, c.num_kv_heads, tp.size(), tp.rank());
  CHECK(heads.ok()) << heads.status();
  const Shape shape = {max_tokens, heads->key_value.range.size() * c.head_dim};
  const Tensor tensor(nullptr, model.dtype(), shape, model.device());
  KvCache cache(max_tokens);
  cache.keys_.assign(c.num_layers, tensor);
  cache.values_.assign(c.num_layers, tensor);
  return cache;
}

absl::Status CheckTensorParallel(const ModelConfig& config, int num_ranks) {
  STRAKE_RETURN_IF_ERROR(
      AttentionHeadShard(config.num_heads, config.num_kv_heads, num_ranks, /*rank=*/0).status());
  return EvenShard("intermediate columns", config.intermediate_size, num_ranks, /*rank=*/0)
      .status();
}

Transformer::Transformer(const ModelConfig& config, int64_t max_seq_len, ParameterArena* arena,
                         const TensorParallel& tp, const LogitsChunk& logits_chunk,
                         ActivationRecompute recompute)
    : config_(config), max_seq_len_(max_seq_len), tp_(tp) {
  const absl::Status fits = CheckTensorParallel(config, tp.size());
  CHECK(fits.ok()) << fits;
  const TensorNames& names = TensorNamesOf(config);
  Parameter* token_table = AddTokenTable(config, tp, TensorName(names.token_embedding), arena);
  position_table_ = AddPositionTable(config, tp, arena);
  std::deque<AttentionBlock> attention;
  std::deque<MlpBlock> mlp;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    attention.emplace_back(config, i, tp, arena, recompute);
    mlp.emplace_back(config, i, tp, arena, recompute);
  }
  norm_ = AddNorm(config, tp, arena, TensorName(names.final_norm));
  norm_->set_layer("last norm");
  const VocabParallelEmbedding embedding(token_table, config.vocab_size, tp);
  layers_ = Layers{embedding, std::move(attention), std::move(mlp),
                   AddHead(config, tp, embedding, logits_chunk, arena)};
  decode_layers_ = WithoutSequenceParallelism(*layers_);
}

Transformer::Layers Transformer::WithoutSequenceParallelism(const Layers& layers) {
  std::deque<AttentionBlock> attention;
  std::deque<MlpBlock> mlp;
  for (const AttentionBlock& block : layers.attention) {
    attention.push_back(block.WithoutSequenceParallelism());
  }
  for (const MlpBlock& block : layers.mlp) mlp.push_back(block.WithoutSequenceParallelism());
  return {layers.embedding.WithoutSequenceParallelism(), std::move(attention), std::move(mlp),
          layers.head.WithoutSequenceParallelism()};
}

const Tensor& Transformer::HostRopeTable() const {
  if (!rope_table_.tensor().defined()) {
    rope_table_ = TensorBuffer(DType::kF64, {max_seq_len_, config_.head_dim});
    RopeTable(*config_.attention_kinds[0].rope, rope_table_);
  }
  return rope_table_.tensor();
}

absl::Status Transformer::PlaceTables() {
  if (!config_.attention_kinds[0].rope || device() == Device::kCpu) return absl::OkStatus();
  const Tensor& table = HostRopeTable();
  STRAKE_ASSIGN_OR_RETURN(cuda_rope_table_,
                          DeviceBuffer::Create(device(), table.dtype(), table.shape()));
  return CopyBlocking(table, cuda_rope_table_.tensor());
}

Tensor Transformer::RopeTableFor(const Context& ctx) const {
  if (!config_.attention_kinds[0].rope) return Tensor();
  const Device device = ctx.arena().device();
  if (ctx.dry_run()) {
    return Tensor(nullptr, DType::kF64, {max_seq_len_, config_.head_dim}, device);
  }
  if (device == Device::kCpu) return HostRopeTable();
  CHECK(cuda_rope_table_.tensor().defined()) << "[transformer] on a GPU without PlaceTables()";
  return cuda_rope_table_.tensor();
}

absl::StatusOr<Tensor> Transformer::Embed(const Context& ctx, const Layers& layers,
                                          const Tensor& tokens, const Tensor& table, int64_t period,
                                          int64_t offset) const {
  const LayerScope layer(ctx.recorder(), "tokens");
  STRAKE_ASSIGN_OR_RETURN(const Tensor x, layers.embedding.Forward(ctx, tokens));
  if (table.defined()) {
    const LayerScope positions(ctx.recorder(), "positions");
    ctx.WillRead(*position_table_);
    STRAKE_RETURN_IF_ERROR(PositionEmbeddingForward(ctx, table, period, offset, x));
  }
  return x;
}

absl::StatusOr<Tensor> Transformer::Hidden(const Context& ctx, const Tensor& tokens,
                                           int64_t seq_len, TransformerSaved* saved) const {
  saved->tokens = tokens;
  saved->seq_len = seq_len;
  saved->attention.resize(config_.num_layers);
  saved->mlp.resize(config_.num_layers);
  const Tensor rope_table = RopeTableFor(ctx);
  ResidualStream stream;
  STRAKE_ASSIGN_OR_RETURN(stream.x, Embed(ctx, *layers_, tokens, PositionTable(),
                                          /*period=*/seq_len, tp_.FirstLocalToken(tokens.dim(0))));
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    {
      const LayerScope layer(ctx.recorder(), "attention");
      STRAKE_ASSIGN_OR_RETURN(stream, layers_->attention[i].Forward(
                                          ctx, stream, seq_len, rope_table, &saved->attention[i]));
    }
    const LayerScope layer(ctx.recorder(), "mlp");
    STRAKE_ASSIGN_OR_RETURN(stream, layers_->mlp[i].Forward(ctx, stream, &saved->mlp[i]));
  }
  return norm_->Forward(ctx, stream.x, stream.residual, &saved->norm);
}

absl::StatusOr<Tensor> Transformer::Logits(const Context& ctx, const Tensor& tokens,
                                           int64_t seq_len, TransformerSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, Hidden(ctx, tokens, seq_len, saved));
  return layers_->head.Logits(ctx, h);
}

absl::StatusOr<Tensor> Transformer::Forward(const Context& ctx, const Tensor& tokens,
                                            const Tensor& targets, int64_t seq_len,
                                            TransformerSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, Hidden(ctx, tokens, seq_len, saved));
  return layers_->head.Forward(ctx, h, targets, &saved->head);
}

absl::StatusOr<Tensor> Transformer::ForwardForTraining(const Context& ctx, const Tensor& tokens,
                                                       const Tensor& targets, int64_t seq_len,
                                                       double scale,
                                                       TransformerSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, Hidden(ctx, tokens, seq_len, saved));
  return layers_->head.ForwardBackward(ctx, h, targets, scale, &saved->head);
}

absl::Status Transformer::Backward(const Context& ctx, TransformerSaved* saved) const {
  CHECK(saved->head.dh.defined()) << "[transformer] Backward() without ForwardForTraining()";
  const ActivationScope scope(ctx.arena());
  const Tensor rope_table = RopeTableFor(ctx);
  // One tensor is the residual stream's gradient, updated in place by each block.
  const Tensor& dx = saved->head.dh;
  STRAKE_RETURN_IF_ERROR(norm_->Backward(ctx, dx, saved->norm, /*accumulate_dx=*/false, dx));
  for (int64_t i = config_.num_layers - 1; i >= 0; --i) {
    {
      const LayerScope layer(ctx.recorder(), "mlp");
      STRAKE_RETURN_IF_ERROR(layers_->mlp[i].Backward(ctx, dx, &saved->mlp[i]));
    }
    const LayerScope layer(ctx.recorder(), "attention");
    STRAKE_RETURN_IF_ERROR(
        layers_->attention[i].Backward(ctx, rope_table, dx, &saved->attention[i]));
  }
  const LayerScope layer(ctx.recorder(), "tokens");
  if (position_table_ != nullptr) {
    const LayerScope positions(ctx.recorder(), "positions");
    STRAKE_RETURN_IF_ERROR(PositionEmbeddingBackward(
        ctx, dx, saved->seq_len, tp_.FirstLocalToken(saved->tokens.dim(0)), position_table_->grad));
    ctx.GradReady(*position_table_);
  }
  return layers_->embedding.Backward(ctx, dx, saved->tokens);
}

absl::StatusOr<DecodePlace> Transformer::CreateDecodePlace() const {
  DecodePlace place;
  const auto create = [&](DType dtype, int64_t columns) {
    return DeviceBuffer::Create(device(), dtype, {1, columns});
  };
  STRAKE_ASSIGN_OR_RETURN(place.past, DeviceBuffer::Create(device(), DType::kI32, {1}));
  if (config_.attention_kinds[0].rope) {
    STRAKE_ASSIGN_OR_RETURN(place.rope_row, create(DType::kF64, config_.head_dim));
  }
  if (position_table_ != nullptr) {
    STRAKE_ASSIGN_OR_RETURN(place.position_row, create(dtype(), config_.hidden_size));
  }
  return place;
}

absl::Status Transformer::CopyTableRows(const Context& ctx, int64_t past,
                                        const DecodePlace& place) const {
  const auto copy_row = [&](const Tensor& table, const Tensor& row) {
    return row.defined() ? Copy(ctx, table.Rows(past, past + 1), row) : absl::OkStatus();
  };
  STRAKE_RETURN_IF_ERROR(copy_row(RopeTableFor(ctx), place.rope_row.tensor()));
  return copy_row(PositionTable(), place.position_row.tensor());
}

absl::StatusOr<Tensor> Transformer::Decode(const Context& ctx, const Tensor& tokens, KvCache* cache,
                                           const DecodePlace* place) const {
  const int64_t past = cache->length_, count = tokens.dim(0);
  CHECK_LE(past + count, cache->max_tokens_) << "[transformer] key/value cache is full";
  CHECK(position_table_ == nullptr || past + count <= config_.max_positions)
      << "[transformer] " << past << " + " << count << " tokens, " << config_.max_positions
      << " positions";
  const Layers& layers = *decode_layers_;
  CachedPositions at = {.past = past, .rope_table = RopeTableFor(ctx), .rope_offset = past};
  ResidualStream stream;
  if (place == nullptr) {
    STRAKE_ASSIGN_OR_RETURN(
        stream.x, Embed(ctx, layers, tokens, PositionTable(), config_.max_positions, past));
  } else {
    at.past_on_gpu = place->past.tensor();
    at.rope_table = place->rope_row.tensor();
    at.rope_offset = 0;
    STRAKE_ASSIGN_OR_RETURN(stream.x, Embed(ctx, layers, tokens, place->position_row.tensor(),
                                            /*period=*/1, /*offset=*/0));
  }
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    STRAKE_ASSIGN_OR_RETURN(stream, layers.attention[i].ForwardCached(
                                        ctx, stream, at, cache->keys_[i], cache->values_[i]));
    MlpBlockSaved mlp_saved;
    STRAKE_ASSIGN_OR_RETURN(stream, layers.mlp[i].Forward(ctx, stream, &mlp_saved));
  }
  cache->length_ += count;
  const auto last = [count](const Tensor& x) { return x.defined() ? x.Rows(count - 1, count) : x; };
  NormSaved norm_saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h,
                          norm_->Forward(ctx, last(stream.x), last(stream.residual), &norm_saved));
  STRAKE_ASSIGN_OR_RETURN(const Tensor local, layers.head.Logits(ctx, h));
  STRAKE_ASSIGN_OR_RETURN(const Tensor logits, tp_.GatherColumns(ctx, local));
  // In one row, padding comes after the vocabulary.
  return Tensor(logits.raw(), logits.dtype(), {1, config_.vocab_size}, logits.device());
}

}  // namespace strake
