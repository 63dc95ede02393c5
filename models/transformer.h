// Transformer: a decoder-only language model of the GPT-2 or Llama family.
//
//   N = B*T tokens in sequences of T, C hidden size, V vocabulary
//   embedding   tokens [N]       -> x [N, C]           plus learned positions (GPT-2)
//   layers      x -> AttentionBlock -> MlpBlock -> x
//   norm        x [N, C]         -> h [N, C]
//   head        h [N, C]         -> logits [N, V]      the embedding's table where tied
//   loss        logits, targets  -> loss [N]           nats per token
//   Backward    gradients of scale * sum(loss), += into the parameters, head to embedding
#ifndef STRAKE_MODELS_TRANSFORMER_H_
#define STRAKE_MODELS_TRANSFORMER_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device/context.h"
#include "core/memory/parameter_arena.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"
#include "models/attention_block.h"
#include "models/mlp_block.h"
#include "models/model_config.h"

namespace strake {

// What the backward pass needs of one micro-batch; its tensors live in the activation arena.
struct TransformerSaved {
  Tensor tokens, targets;  // [N]
  int64_t seq_len = 0;
  std::vector<AttentionBlockSaved> attention;
  std::vector<MlpBlockSaved> mlp;
  NormSaved norm;
  LinearSaved head;
  Tensor logits;  // [N, V]; the backward pass overwrites it
  Tensor lse;     // [N]
};

// Keys and values of one sequence, for generation.
class KvCache {
 public:
  KvCache(const ModelConfig& config, int64_t max_tokens, DType dtype);

  int64_t length() const { return length_; }
  int64_t max_tokens() const { return max_tokens_; }
  // As if that many tokens had been appended: to rewind, and to plan for the longest cache.
  void set_length(int64_t length) { length_ = length; }

 private:
  friend class Transformer;
  int64_t length_ = 0;
  int64_t max_tokens_;
  std::vector<TensorBuffer> keys_, values_;  // per layer [max_tokens, KV D]
};

class Transformer {
 public:
  // Adds the parameters to `arena`, in forward order; the caller then allocates it and sets the
  // weights. Sequences are of at most `max_seq_len` tokens. The arena must outlive the model.
  Transformer(const ModelConfig& config, int64_t max_seq_len, ParameterArena* arena);
  // Layers point at each other's parameters.
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const ModelConfig& config() const { return config_; }

  // logits [N, V] of tokens [N] (i32), allocated from ctx.arena(), of the parameters' dtype.
  absl::StatusOr<Tensor> Logits(const Context& ctx, const Tensor& tokens, int64_t seq_len,
                                TransformerSaved* saved) const;

  // loss [N] of tokens and targets [N] (i32). Tensors in `saved` stay valid until the caller's
  // ActivationScope ends. InvalidArgument for a token or target outside the vocabulary.
  absl::StatusOr<Tensor> Forward(const Context& ctx, const Tensor& tokens, const Tensor& targets,
                                 int64_t seq_len, TransformerSaved* saved) const;

  // After Forward, once per `saved`. For the mean over a global batch, `scale` is one over its
  // number of tokens.
  absl::Status Backward(const Context& ctx, double scale, TransformerSaved* saved) const;

  // Appends tokens [n] (i32) to the cache and returns the logits [1, V] after the last of them.
  // CHECKs that the cache has room.
  absl::StatusOr<Tensor> Decode(const Context& ctx, const Tensor& tokens, KvCache* cache) const;

 private:
  absl::StatusOr<Tensor> Embed(const Context& ctx, const Tensor& tokens, int64_t period,
                               int64_t offset) const;

  const ModelConfig config_;
  TensorBuffer rope_table_;  // [max_seq_len, D] (f64); undefined for GPT-2
  const Parameter* token_table_;
  const Parameter* position_table_;  // null for Llama
  std::deque<AttentionBlock> attention_;
  std::deque<MlpBlock> mlp_;
  Norm norm_;
  Linear head_;
};

}  // namespace strake

#endif  // STRAKE_MODELS_TRANSFORMER_H_
