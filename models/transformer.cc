#include "models/transformer.h"

#include "core/base/status_macros.h"
#include "core/ops/embedding.h"
#include "core/ops/position_embedding.h"
#include "core/ops/rope.h"
#include "core/ops/softmax_cross_entropy.h"
#include "glog/logging.h"
#include "models/layer_parameters.h"

namespace strake {
namespace {

bool IsGpt2(const ModelConfig& config) { return config.family == ModelFamily::kGpt2; }

const Parameter* AddTokenTable(const ModelConfig& c, ParameterArena* arena) {
  const char* name = IsGpt2(c) ? "transformer.wte.weight" : "model.embed_tokens.weight";
  return arena->Add({{name, c.hidden_size}}, {c.vocab_size, c.hidden_size}, true,
                    {.stddev = c.initializer_range});
}

const Parameter* AddPositionTable(const ModelConfig& c, ParameterArena* arena) {
  if (!IsGpt2(c)) return nullptr;
  return arena->Add({{"transformer.wpe.weight", c.hidden_size}}, {c.max_positions, c.hidden_size},
                    true, {.stddev = c.initializer_range});
}

// Interleaves the two halves, so that parameters stand in forward order.
Norm AddLayersAndNorm(const ModelConfig& c, ParameterArena* arena,
                      std::deque<AttentionBlock>* attention, std::deque<MlpBlock>* mlp) {
  for (int64_t i = 0; i < c.num_layers; ++i) {
    attention->emplace_back(c, i, arena);
    mlp->emplace_back(c, i, arena);
  }
  return AddNorm(c, arena, IsGpt2(c) ? "transformer.ln_f" : "model.norm");
}

// [V, C], applied transposed: the layout of an embedding, so that tying shares the parameter.
Linear MakeHead(const ModelConfig& c, const Parameter* token_table, ParameterArena* arena) {
  if (c.tie_word_embeddings) {
    return Linear(token_table, /*bias=*/nullptr, /*transposed=*/true, WeightOwnership::kShared);
  }
  const Parameter* weight =
      arena->Add({{"lm_head.weight", c.hidden_size}}, {c.vocab_size, c.hidden_size}, true,
                 {.stddev = c.initializer_range});
  return Linear(weight, /*bias=*/nullptr, /*transposed=*/true);
}

TensorBuffer MakeRopeTable(const ModelConfig& c, int64_t max_seq_len) {
  if (IsGpt2(c)) return TensorBuffer();
  TensorBuffer table(DType::kF64, {max_seq_len, c.head_dim});
  RopeTable(c.rope, table);
  return table;
}

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t max_tokens, DType dtype)
    : max_tokens_(max_tokens) {
  const Shape shape = {max_tokens, config.num_kv_heads * config.head_dim};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    keys_.emplace_back(dtype, shape);
    values_.emplace_back(dtype, shape);
  }
}

Transformer::Transformer(const ModelConfig& config, int64_t max_seq_len, ParameterArena* arena)
    : config_(config),
      rope_table_(MakeRopeTable(config, max_seq_len)),
      token_table_(AddTokenTable(config, arena)),
      position_table_(AddPositionTable(config, arena)),
      norm_(AddLayersAndNorm(config, arena, &attention_, &mlp_)),
      head_(MakeHead(config, token_table_, arena)) {}

absl::StatusOr<Tensor> Transformer::Embed(const Context& ctx, const Tensor& tokens, int64_t period,
                                          int64_t offset) const {
  const Tensor& table = token_table_->value;
  const Tensor x = ctx.arena().Allocate(table.dtype(), {tokens.dim(0), config_.hidden_size});
  STRAKE_RETURN_IF_ERROR(
      EmbeddingForward(ctx, tokens, {.vocab_size = config_.vocab_size}, table, x));
  if (position_table_ != nullptr) {
    STRAKE_RETURN_IF_ERROR(
        PositionEmbeddingForward(ctx, position_table_->value, period, offset, x));
  }
  return x;
}

absl::StatusOr<Tensor> Transformer::Logits(const Context& ctx, const Tensor& tokens,
                                           int64_t seq_len, TransformerSaved* saved) const {
  saved->tokens = tokens;
  saved->seq_len = seq_len;
  saved->attention.resize(config_.num_layers);
  saved->mlp.resize(config_.num_layers);
  STRAKE_ASSIGN_OR_RETURN(Tensor x, Embed(ctx, tokens, /*period=*/seq_len, /*offset=*/0));
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    STRAKE_ASSIGN_OR_RETURN(
        x, attention_[i].Forward(ctx, x, seq_len, rope_table_, &saved->attention[i]));
    STRAKE_ASSIGN_OR_RETURN(x, mlp_[i].Forward(ctx, x, &saved->mlp[i]));
  }
  STRAKE_ASSIGN_OR_RETURN(const Tensor h, norm_.Forward(ctx, x, &saved->norm));
  return head_.Forward(ctx, h, &saved->head);
}

absl::StatusOr<Tensor> Transformer::Forward(const Context& ctx, const Tensor& tokens,
                                            const Tensor& targets, int64_t seq_len,
                                            TransformerSaved* saved) const {
  STRAKE_ASSIGN_OR_RETURN(saved->logits, Logits(ctx, tokens, seq_len, saved));
  saved->targets = targets;
  saved->lse = ctx.arena().Allocate(saved->logits.dtype(), {tokens.dim(0)});
  const Tensor loss = ctx.arena().Allocate(saved->logits.dtype(), {tokens.dim(0)});
  STRAKE_RETURN_IF_ERROR(SoftmaxCrossEntropyForward(ctx, saved->logits, targets, loss, saved->lse));
  return loss;
}

absl::Status Transformer::Backward(const Context& ctx, double scale,
                                   TransformerSaved* saved) const {
  const ActivationScope scope(ctx.arena());
  const Tensor& dlogits = saved->logits;
  STRAKE_RETURN_IF_ERROR(SoftmaxCrossEntropyBackward(ctx, saved->targets, saved->lse, scale,
                                                     {.vocab_size = config_.vocab_size}, dlogits));

  Pending<Tensor> pending_dh = head_.BackwardInput(ctx, dlogits, saved->head);
  STRAKE_RETURN_IF_ERROR(head_.BackwardWeight(ctx, dlogits, saved->head));
  STRAKE_ASSIGN_OR_RETURN(const Tensor dh, pending_dh.Wait());

  // From here on one tensor is the residual stream's gradient, updated in place by each block.
  const Tensor& dx = dh;
  STRAKE_RETURN_IF_ERROR(norm_.Backward(ctx, dh, saved->norm, /*accumulate_dx=*/false, dx));
  for (int64_t i = config_.num_layers - 1; i >= 0; --i) {
    STRAKE_RETURN_IF_ERROR(mlp_[i].Backward(ctx, saved->mlp[i], dx));
    STRAKE_RETURN_IF_ERROR(attention_[i].Backward(ctx, saved->attention[i], rope_table_, dx));
  }
  if (position_table_ != nullptr) {
    STRAKE_RETURN_IF_ERROR(
        PositionEmbeddingBackward(ctx, dx, saved->seq_len, /*offset=*/0, position_table_->grad));
    ctx.GradReady(*position_table_);
  }
  STRAKE_RETURN_IF_ERROR(EmbeddingBackward(ctx, dx, saved->tokens,
                                           {.vocab_size = config_.vocab_size}, token_table_->grad));
  ctx.GradReady(*token_table_);
  return absl::OkStatus();
}

absl::StatusOr<Tensor> Transformer::Decode(const Context& ctx, const Tensor& tokens,
                                           KvCache* cache) const {
  const int64_t past = cache->length_, count = tokens.dim(0);
  CHECK_LE(past + count, cache->max_tokens_) << "[transformer] key/value cache is full";
  CHECK(position_table_ == nullptr || past + count <= config_.max_positions)
      << "[transformer] " << past << " + " << count << " tokens, " << config_.max_positions
      << " positions";
  STRAKE_ASSIGN_OR_RETURN(Tensor x, Embed(ctx, tokens, config_.max_positions, past));
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    STRAKE_ASSIGN_OR_RETURN(x, attention_[i].ForwardCached(ctx, x, past, rope_table_,
                                                           cache->keys_[i], cache->values_[i]));
    MlpBlockSaved mlp_saved;
    STRAKE_ASSIGN_OR_RETURN(x, mlp_[i].Forward(ctx, x, &mlp_saved));
  }
  cache->length_ += count;
  NormSaved norm_saved;
  LinearSaved head_saved;
  STRAKE_ASSIGN_OR_RETURN(const Tensor h,
                          norm_.Forward(ctx, x.Rows(count - 1, count), &norm_saved));
  return head_.Forward(ctx, h, &head_saved);
}

}  // namespace strake
