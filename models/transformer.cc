#include "models/transformer.h"

#include <string>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/ops/copy/copy.h"
#include "core/ops/embedding/position_embedding.h"
#include "core/ops/residual_add/residual_add.h"
#include "core/ops/scale/scale.h"
#include "core/ops/vocab_slice.h"
#include "glog/logging.h"
#include "models/layer_parameters.h"
#include "models/lora_modules.h"
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

// A copy of the embedding's table, which counts where that is.
Parameter* AddTableCopy(const ModelConfig& c, const TensorParallel& tp, ParameterArena* arena) {
  Parameter* const table =
      AddTokenTable(c, tp, TensorName(TensorNamesOf(c).token_embedding), arena);
  ParameterRecord& record = arena->records().back();
  for (ParameterSegment& segment : record.segments) segment.slice.owner = false;
  record.own_bucket = true;
  return table;
}

// `embedding` is null in a part without it.
HeadLoss AddHead(const ModelConfig& c, const TensorParallel& tp,
                 const VocabParallelEmbedding* embedding, const LogitsChunk& chunk,
                 ParameterArena* arena) {
  const VocabSlice slice = {.vocab_size = c.vocab_size,
                            .begin = VocabShard(c.vocab_size, tp.size(), tp.rank()).held.begin};
  if (c.tie_word_embeddings && embedding != nullptr) {
    return HeadLoss(&embedding->table(), WeightOwnership::kShared, slice, tp, chunk,
                    c.logits_softcap);
  }
  Parameter* const table = c.tie_word_embeddings
                               ? AddTableCopy(c, tp, arena)
                               : AddTokenTable(c, tp, TensorName(TensorNamesOf(c).head), arena);
  return HeadLoss(table, WeightOwnership::kOwned, slice, tp, chunk, c.logits_softcap);
}

double EmbeddingScale(const ModelConfig& c, DType dtype) {
  const double factor = c.embedding_scale;
  if (!c.round_embedding_scale) return factor;
  switch (dtype) {
    case DType::kF32:
      return static_cast<float>(factor);
    case DType::kBf16:
      return static_cast<float>(Bf16(static_cast<float>(factor)));
    default:
      return factor;
  }
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
  cache.keys_.assign(model.layers().size(), tensor);
  cache.values_.assign(model.layers().size(), tensor);
  return cache;
}

size_t KvCache::num_bytes() const {
  size_t bytes = 0;
  for (const std::vector<Tensor>* tensors : {&keys_, &values_}) {
    for (const Tensor& tensor : *tensors) bytes += tensor.num_bytes();
  }
  return bytes;
}

absl::Status CheckTensorParallel(const ModelConfig& config, int num_ranks) {
  STRAKE_RETURN_IF_ERROR(
      AttentionHeadShard(config.num_heads, config.num_kv_heads, num_ranks, /*rank=*/0).status());
  return EvenShard("intermediate columns", config.intermediate_size, num_ranks, /*rank=*/0)
      .status();
}

Transformer::Transformer(const ModelConfig& config, int64_t max_seq_len, ParameterArena* arena,
                         const TensorParallel& tp, const LogitsChunk& logits_chunk,
                         ActivationRecompute recompute, ParameterArena* adapters,
                         std::optional<LayerRange> part, const ContextParallel& cp)
    : config_(config),
      tp_(tp),
      cp_(cp),
      range_(part.value_or(LayerRange{0, config.num_layers})),
      rope_tables_(config, max_seq_len) {
  const absl::Status fits = CheckTensorParallel(config, tp.size());
  CHECK(fits.ok()) << fits;
  const absl::Status adapted = CheckLora(config);
  CHECK(adapted.ok()) << adapted;
  CHECK(adapters != nullptr || !config.lora.enabled()) << "[transformer] no arena for adapters";
  CHECK(0 <= range_.begin && range_.begin < range_.end && range_.end <= config.num_layers)
      << "[transformer] layers [" << range_.begin << ", " << range_.end << ") of "
      << config.num_layers;
  const size_t num_before = arena->records().size();
  const TensorNames& names = TensorNamesOf(config);
  layers_.emplace();
  if (is_first()) {
    Parameter* const table = AddTokenTable(config, tp, TensorName(names.token_embedding), arena);
    arena->records().back().own_bucket = config.tie_word_embeddings && !is_last();
    layers_->embedding.emplace(table, config.vocab_size, tp);
    position_table_ = AddPositionTable(config, tp, arena);
  }
  for (int64_t i = range_.begin; i < range_.end; ++i) {
    layers_->attention.emplace_back(config, i, tp, arena, recompute, adapters, cp);
    layers_->mlp.emplace_back(config, i, tp, arena, recompute, adapters);
  }
  if (is_last()) {
    norm_ = AddNorm(config, tp, arena, TensorName(names.final_norm));
    norm_->set_layer("last norm");
    layers_->head =
        AddHead(config, tp, is_first() ? &*layers_->embedding : nullptr, logits_chunk, arena);
  }
  decode_layers_ = WithoutSequenceParallelism(*layers_);
  first_parameter_ = &arena->records()[num_before].parameter;
  if (config.lora.enabled()) arena->Freeze();
}

const HeadLoss& Transformer::head() const {
  CHECK(is_last()) << "[transformer] a part without a head";
  return *layers_->head;
}

int64_t Transformer::padded_vocab_size() const {
  return VocabShard(config_.vocab_size, tp_.size(), tp_.rank()).held.size() * tp_.size();
}

Transformer::Layers Transformer::WithoutSequenceParallelism(const Layers& layers) {
  Layers without;
  if (layers.embedding.has_value()) {
    without.embedding = layers.embedding->WithoutSequenceParallelism();
  }
  for (const AttentionBlock& block : layers.attention) {
    without.attention.push_back(block.WithoutSequenceParallelism());
  }
  for (const MlpBlock& block : layers.mlp) {
    without.mlp.push_back(block.WithoutSequenceParallelism());
  }
  if (layers.head.has_value()) without.head = layers.head->WithoutSequenceParallelism();
  return without;
}

absl::StatusOr<Tensor> Transformer::EmbedTokens(const Context& ctx, const Layers& layers,
                                                const Tensor& tokens) const {
  const LayerScope layer(ctx, "tokens");
  STRAKE_ASSIGN_OR_RETURN(const Tensor x, layers.embedding->Forward(ctx, tokens));
  const double scale = EmbeddingScale(config_, dtype());
  if (scale != 1) STRAKE_RETURN_IF_ERROR(Scale(ctx, scale, x, x));
  return x;
}

Tensor Transformer::LocalPositions(const Documents& documents, int64_t num_tokens,
                                   int64_t rows) const {
  if (!documents.defined()) return Tensor();
  const int64_t first = tp_.FirstLocalToken(num_tokens);
  return documents.positions.Rows(first, first + rows);
}

absl::Status Transformer::AddPositions(const Context& ctx, const Tensor& table, int64_t period,
                                       int64_t offset, const Tensor& x,
                                       const Tensor& row_positions) const {
  if (!table.defined()) return absl::OkStatus();
  const LayerScope layer(ctx, "tokens");
  const LayerScope positions(ctx, "positions");
  ctx.WillRead(*position_table_);
  return PositionEmbeddingForward(ctx, table, period, offset, x, row_positions);
}

absl::StatusOr<Tensor> Transformer::HeadInput(const Context& ctx, const ResidualStream& stream,
                                              NormSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, norm_->Forward(ctx, stream.x, stream.residual, saved));
  if (config_.logits_scale != 1) {
    const LayerScope layer(ctx, "head");
    STRAKE_RETURN_IF_ERROR(Scale(ctx, config_.logits_scale, h, h));
  }
  return h;
}

absl::StatusOr<Tensor> Transformer::FirstStream(const Context& ctx,
                                                const TransformerSaved& saved) const {
  if (!is_first()) {
    CHECK(saved.input.defined()) << "[transformer] a part without its input";
    return saved.input;
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor x, EmbedTokens(ctx, *layers_, saved.tokens));
  const int64_t num_tokens = saved.tokens.dim(0);
  STRAKE_RETURN_IF_ERROR(AddPositions(ctx, PositionTable(), /*period=*/saved.seq_len,
                                      tp_.FirstLocalToken(num_tokens), x,
                                      LocalPositions(saved.documents, num_tokens, x.dim(0))));
  return x;
}

absl::StatusOr<Tensor> Transformer::Hidden(const Context& ctx, const Tensor& tokens,
                                           int64_t seq_len, const Documents& documents,
                                           TransformerSaved* saved) const {
  saved->tokens = tokens;
  saved->seq_len = seq_len;
  saved->documents = documents;
  saved->attention.resize(range_.size());
  saved->mlp.resize(range_.size());
  ResidualStream stream;
  STRAKE_ASSIGN_OR_RETURN(stream.x, FirstStream(ctx, *saved));
  for (int64_t i = 0; i < range_.size(); ++i) {
    const int64_t index = range_.begin + i;
    const ProfileSpan block(ctx.profile(), {.category = "layer", .name = "block", .index = index});
    {
      const LayerScope layer(ctx, "attention");
      STRAKE_ASSIGN_OR_RETURN(stream, layers_->attention[i].Forward(
                                          ctx, stream, seq_len, rope_tables_.ForLayer(ctx, index),
                                          &saved->attention[i], documents));
    }
    const LayerScope layer(ctx, "mlp");
    STRAKE_ASSIGN_OR_RETURN(stream, layers_->mlp[i].Forward(ctx, stream, &saved->mlp[i]));
  }
  return is_last() ? HeadInput(ctx, stream, &saved->norm) : SummedStream(ctx, stream);
}

absl::StatusOr<Tensor> Transformer::SummedStream(const Context& ctx, const ResidualStream& stream) {
  const LayerScope layer(ctx, "mlp");
  STRAKE_RETURN_IF_ERROR(ResidualAddForward(ctx, stream.x, stream.residual, stream.x));
  return stream.x;
}

absl::StatusOr<Tensor> Transformer::Logits(const Context& ctx, const Tensor& tokens,
                                           int64_t seq_len, TransformerSaved* saved,
                                           const Documents& documents) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, Hidden(ctx, tokens, seq_len, documents, saved));
  return head().Logits(ctx, h);
}

absl::StatusOr<Tensor> Transformer::Forward(const Context& ctx, const Tensor& tokens,
                                            const Tensor& targets, int64_t seq_len,
                                            TransformerSaved* saved,
                                            const Documents& documents) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, Hidden(ctx, tokens, seq_len, documents, saved));
  return is_last() ? layers_->head->Forward(ctx, h, targets, &saved->head) : h;
}

absl::StatusOr<Tensor> Transformer::ForwardForTraining(const Context& ctx, const Tensor& tokens,
                                                       const Tensor& targets, int64_t seq_len,
                                                       double scale, TransformerSaved* saved,
                                                       const Documents& documents,
                                                       const Context* head_kept) const {
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, Hidden(ctx, tokens, seq_len, documents, saved));
  if (!is_last()) return h;
  return layers_->head->ForwardBackward(ctx, h, targets, scale, &saved->head, head_kept);
}

absl::Status Transformer::BackwardLayer(const Context& ctx, const Context* kept, int64_t i,
                                        const Tensor& dx, TransformerSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  const ProfileSpan block(ctx.profile(),
                          {.category = "layer", .name = "block", .index = range_.begin + i});
  // Both halves of a parallel residual read the gradient of their sum, after dx has become another.
  Tensor dy = dx;
  if (config_.parallel_residual) {
    const LayerScope layer(ctx, "mlp");
    dy = ctx.arena().Allocate(dx.dtype(), dx.shape());
    STRAKE_RETURN_IF_ERROR(Copy(ctx, dx, dy));
  }
  const AttentionBlock& attention = layers_->attention[i];
  const MlpBlock& mlp = layers_->mlp[i];
  {
    const LayerScope layer(ctx, "mlp");
    STRAKE_RETURN_IF_ERROR(kept != nullptr ? mlp.BackwardInput(ctx, *kept, dy, dx, &saved->mlp[i])
                                           : mlp.Backward(ctx, dy, dx, &saved->mlp[i]));
  }
  const LayerScope layer(ctx, "attention");
  const Tensor rope_table = rope_tables_.ForLayer(ctx, range_.begin + i);
  AttentionBlockSaved* const attention_saved = &saved->attention[i];
  if (kept == nullptr) return attention.Backward(ctx, rope_table, dy, dx, attention_saved);
  return attention.BackwardInput(ctx, *kept, rope_table, dy, dx, attention_saved);
}

absl::StatusOr<Tensor> Transformer::BackwardHeadInput(const Context& ctx, const Context* kept,
                                                      TransformerSaved* saved) const {
  if (!is_last()) {
    CHECK(saved->output_grad.defined()) << "[transformer] a part without its output's gradient";
    return saved->output_grad;
  }
  const Tensor& dh = saved->head.dh;
  CHECK(dh.defined()) << "[transformer] backward pass without ForwardForTraining()";
  if (config_.logits_scale != 1) {
    const LayerScope layer(ctx, "head");
    STRAKE_RETURN_IF_ERROR(Scale(ctx, config_.logits_scale, dh, dh));
  }
  Tensor dx = dh;
  if (kept == nullptr) {
    STRAKE_RETURN_IF_ERROR(norm_->Backward(ctx, dh, saved->norm, /*accumulate_dx=*/false, dx));
    return dx;
  }
  if (norm_->trained()) dx = kept->arena().Allocate(dh.dtype(), dh.shape());
  STRAKE_RETURN_IF_ERROR(norm_->BackwardInput(ctx, dh, /*accumulate_dx=*/false, dx, &saved->norm));
  return dx;
}

absl::StatusOr<Tensor> Transformer::BackwardStream(const Context& ctx, const Context* kept,
                                                   TransformerSaved* saved) const {
  // One tensor is the residual stream's gradient, updated in place by each layer.
  STRAKE_ASSIGN_OR_RETURN(const Tensor dx, BackwardHeadInput(ctx, kept, saved));
  for (int64_t i = range_.size() - 1; i >= 0; --i) {
    STRAKE_RETURN_IF_ERROR(BackwardLayer(ctx, kept, i, dx, saved));
  }
  return dx;
}

absl::Status Transformer::BackwardEmbedding(const Context& ctx, const Tensor& dx,
                                            const TransformerSaved& saved) const {
  if (!is_first() || layers_->embedding->table().frozen) return absl::OkStatus();
  const LayerScope layer(ctx, "tokens");
  if (position_table_ != nullptr) {
    const LayerScope positions(ctx, "positions");
    const int64_t num_tokens = saved.tokens.dim(0);
    STRAKE_RETURN_IF_ERROR(PositionEmbeddingBackward(
        ctx, dx, saved.seq_len, tp_.FirstLocalToken(num_tokens), position_table_->grad,
        LocalPositions(saved.documents, num_tokens, dx.dim(0))));
    ctx.GradReady(*position_table_);
  }
  const double scale = EmbeddingScale(config_, dtype());
  if (scale != 1) STRAKE_RETURN_IF_ERROR(Scale(ctx, scale, dx, dx));
  return layers_->embedding->Backward(ctx, dx, saved.tokens);
}

absl::Status Transformer::Backward(const Context& ctx, TransformerSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  STRAKE_ASSIGN_OR_RETURN(saved->dx, BackwardStream(ctx, /*kept=*/nullptr, saved));
  return BackwardEmbedding(ctx, saved->dx, *saved);
}

absl::Status Transformer::BackwardInput(const Context& ctx, const Context& kept,
                                        TransformerSaved* saved) const {
  CHECK(&ctx.arena() != &kept.arena()) << "[transformer] nothing is kept in an arena of scratch";
  const ActivationScope scope(ctx.arena());
  STRAKE_ASSIGN_OR_RETURN(saved->dx, BackwardStream(ctx, &kept, saved));
  return absl::OkStatus();
}

absl::Status Transformer::BackwardLayerWeight(const Context& ctx, int64_t i,
                                              const TransformerSaved& saved) const {
  const ProfileSpan block(ctx.profile(),
                          {.category = "layer", .name = "block", .index = range_.begin + i});
  {
    const LayerScope layer(ctx, "mlp");
    STRAKE_RETURN_IF_ERROR(layers_->mlp[i].BackwardWeight(ctx, saved.mlp[i]));
  }
  const LayerScope layer(ctx, "attention");
  return layers_->attention[i].BackwardWeight(ctx, saved.attention[i]);
}

absl::Status Transformer::BackwardWeight(const Context& ctx, TransformerSaved* saved) const {
  CHECK(saved->dx.defined()) << "[transformer] BackwardWeight() without BackwardInput()";
  const ActivationScope scope(ctx.arena());
  if (is_last()) {
    STRAKE_RETURN_IF_ERROR(layers_->head->BackwardWeight(ctx, saved->head));
    STRAKE_RETURN_IF_ERROR(norm_->BackwardWeight(ctx, saved->norm));
  }
  for (int64_t i = range_.size() - 1; i >= 0; --i) {
    STRAKE_RETURN_IF_ERROR(BackwardLayerWeight(ctx, i, *saved));
  }
  return BackwardEmbedding(ctx, saved->dx, *saved);
}

absl::StatusOr<DecodePlace> Transformer::CreateDecodePlace() const {
  DecodePlace place;
  const auto create = [&](DType dtype, int64_t columns) {
    return DeviceBuffer::Create(device(), dtype, {1, columns});
  };
  STRAKE_ASSIGN_OR_RETURN(place.past, DeviceBuffer::Create(device(), DType::kI32, {1}));
  for (int i = 0; i < rope_tables_.size(); ++i) {
    STRAKE_ASSIGN_OR_RETURN(DeviceBuffer row, create(DType::kF64, rope_tables_.Columns(i)));
    place.rope_rows.push_back(std::move(row));
  }
  if (position_table_ != nullptr) {
    STRAKE_ASSIGN_OR_RETURN(place.position_row, create(dtype(), config_.hidden_size));
  }
  return place;
}

absl::Status Transformer::CopyTableRows(const Context& ctx, int64_t past,
                                        const DecodePlace& place) const {
  for (int i = 0; i < rope_tables_.size(); ++i) {
    STRAKE_RETURN_IF_ERROR(Copy(ctx,
                                rope_tables_.Get(ctx, i, /*length=*/past + 1).Rows(past, past + 1),
                                place.rope_rows[i].tensor()));
  }
  if (position_table_ == nullptr) return absl::OkStatus();
  return Copy(ctx, PositionTable().Rows(past, past + 1), place.position_row.tensor());
}

CachedSequence Transformer::SequenceAt(const Context& ctx, int64_t i, const KvCache& cache,
                                       int64_t count, const ShardRange& some,
                                       const DecodePlace* place) const {
  const int64_t layer = range_.begin + i;
  CachedSequence at = {.num_tokens = some.size(),
                       .past = cache.length_ + some.begin,
                       .k_cache = cache.keys_[i],
                       .v_cache = cache.values_[i]};
  const int table = rope_tables_.IndexOf(layer);
  if (place == nullptr) {
    at.rope_table = rope_tables_.ForLayer(ctx, layer, cache.length_ + count);
    at.rope_offset = at.past;
  } else {
    at.past_on_gpu = place->past.tensor();
    if (table >= 0) at.rope_table = place->rope_rows[table].tensor();
  }
  return at;
}

absl::StatusOr<ResidualStream> Transformer::RunCached(const Context& ctx, const Tensor& x,
                                                      int64_t count,
                                                      absl::Span<KvCache* const> caches,
                                                      const DecodePlace* place) const {
  CHECK(x.defined()) << "[transformer] a part without its input";
  const Layers& layers = *decode_layers_;
  ResidualStream stream = {.x = x};
  std::vector<CachedSequence> sequences(caches.size());
  for (int64_t i = 0; i < range_.size(); ++i) {
    for (size_t s = 0; s < caches.size(); ++s) {
      sequences[s] = SequenceAt(ctx, i, *caches[s], count, {0, count}, place);
    }
    STRAKE_ASSIGN_OR_RETURN(stream, layers.attention[i].ForwardCached(ctx, stream, sequences));
    MlpBlockSaved mlp_saved;
    STRAKE_ASSIGN_OR_RETURN(stream, layers.mlp[i].Forward(ctx, stream, &mlp_saved));
  }
  for (KvCache* cache : caches) cache->length_ += count;
  return stream;
}

absl::StatusOr<Tensor> Transformer::GatheredLogits(const Context& ctx,
                                                   const ResidualStream& stream) const {
  NormSaved norm_saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, HeadInput(ctx, stream, &norm_saved));
  STRAKE_ASSIGN_OR_RETURN(const Tensor local, decode_layers_->head->Logits(ctx, h));
  return tp_.GatherColumns(ctx, local);
}

void Transformer::CheckRoom(const KvCache& cache, int64_t count) const {
  const int64_t past = cache.length_;
  CHECK_LE(past + count, cache.max_tokens_) << "[transformer] key/value cache is full";
  CHECK(position_table_ == nullptr || past + count <= config_.max_positions)
      << "[transformer] " << past << " + " << count << " tokens, " << config_.max_positions
      << " positions";
}

absl::StatusOr<Tensor> Transformer::Decode(const Context& ctx, const Tensor& tokens, KvCache* cache,
                                           const DecodePlace* place, const Tensor& input) const {
  const int64_t count = tokens.dim(0);
  CheckRoom(*cache, count);
  Tensor x = input;
  if (is_first()) {
    STRAKE_ASSIGN_OR_RETURN(x, EmbedTokens(ctx, *decode_layers_, tokens));
    if (place == nullptr) {
      STRAKE_RETURN_IF_ERROR(
          AddPositions(ctx, PositionTable(), config_.max_positions, cache->length_, x));
    } else {
      STRAKE_RETURN_IF_ERROR(
          AddPositions(ctx, place->position_row.tensor(), /*period=*/1, /*offset=*/0, x));
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const ResidualStream stream,
                          RunCached(ctx, x, count, {&cache, 1}, place));
  if (!is_last()) return SummedStream(ctx, stream);
  const auto last = [count](const Tensor& x) { return x.defined() ? x.Rows(count - 1, count) : x; };
  STRAKE_ASSIGN_OR_RETURN(
      const Tensor logits,
      GatheredLogits(ctx, {.x = last(stream.x), .residual = last(stream.residual)}));
  // In one row, padding comes after the vocabulary.
  return Tensor(logits.raw(), logits.dtype(), {1, config_.vocab_size}, logits.device());
}

absl::StatusOr<Tensor> Transformer::DecodeChunks(const Context& ctx, const Tensor& tokens,
                                                 KvCache* cache, const Tensor& input) const {
  const int64_t count = tokens.dim(0) * cp_.size();
  CHECK(cp_.chunks().Divide(count)) << "[transformer] chunks of " << count << " tokens";
  CheckRoom(*cache, count);
  const Layers& layers = *decode_layers_;
  const auto chunks = cp_.chunks().Of(count);
  ResidualStream stream = {.x = input};
  if (is_first()) {
    STRAKE_ASSIGN_OR_RETURN(stream.x, EmbedTokens(ctx, layers, tokens));
    int64_t row = 0;
    for (const ShardRange& chunk : chunks) {
      STRAKE_RETURN_IF_ERROR(AddPositions(ctx, PositionTable(), config_.max_positions,
                                          cache->length_ + chunk.begin,
                                          stream.x.Rows(row, row + chunk.size())));
      row += chunk.size();
    }
  }
  for (int64_t i = 0; i < range_.size(); ++i) {
    std::vector<CachedSequence> sequences;
    for (const ShardRange& chunk : chunks) {
      sequences.push_back(SequenceAt(ctx, i, *cache, count, chunk, /*place=*/nullptr));
    }
    STRAKE_ASSIGN_OR_RETURN(stream, layers.attention[i].ForwardCached(ctx, stream, sequences,
                                                                      /*are_chunks=*/true));
    MlpBlockSaved mlp_saved;
    STRAKE_ASSIGN_OR_RETURN(stream, layers.mlp[i].Forward(ctx, stream, &mlp_saved));
  }
  cache->length_ += count;
  return is_last() ? Tensor() : SummedStream(ctx, stream);
}

absl::StatusOr<Tensor> Transformer::DecodeEach(const Context& ctx, const Tensor& tokens,
                                               absl::Span<KvCache* const> caches,
                                               const Tensor& input) const {
  CHECK(tokens.shape() == Shape{static_cast<int64_t>(caches.size())})
      << "[transformer] tokens " << tokens.ToString() << " for " << caches.size() << " caches";
  for (const KvCache* cache : caches) CheckRoom(*cache, 1);
  Tensor x = input;
  if (is_first()) {
    STRAKE_ASSIGN_OR_RETURN(x, EmbedTokens(ctx, *decode_layers_, tokens));
    for (size_t r = 0; r < caches.size(); ++r) {
      STRAKE_RETURN_IF_ERROR(AddPositions(ctx, PositionTable(), config_.max_positions,
                                          caches[r]->length_, x.Rows(r, r + 1)));
    }
  }
  STRAKE_ASSIGN_OR_RETURN(const ResidualStream stream,
                          RunCached(ctx, x, /*count=*/1, caches, /*place=*/nullptr));
  return is_last() ? GatheredLogits(ctx, stream) : SummedStream(ctx, stream);
}

}  // namespace strake
