// ModelConfig: the sizes and features of a decoder-only model.
#ifndef STRAKE_MODELS_MODEL_CONFIG_H_
#define STRAKE_MODELS_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/rope/rope.h"
#include "models/lora_config.h"

namespace strake {

struct ModelFamily;

// kLayerNorm has a bias.
enum class NormKind { kLayerNorm, kRmsNorm };

// Where the norms of a layer's halves f stand: x + f(norm(x)), x + norm(f(x)), or
// x + norm(f(norm(x))). One more norm precedes the head.
enum class NormPlace { kBefore, kAfter, kBeforeAndAfter };

// RMSNorms of queries and keys before RoPE. kPerHead: of each head, with a weight [D] that heads
// share; kWhole: of all heads of a token at once, with weights [H D] and [KV D].
enum class QkNorm { kNone, kPerHead, kWhole };

// What may differ between the attentions of a model's layers.
struct AttentionKind {
  int64_t window = 0;                   // see core/ops/attention/attention_shape.h
  std::optional<RopeConfig> rope = {};  // absent: queries and keys are not rotated
  bool operator==(const AttentionKind&) const = default;
};

// Features are independent of each other.
struct ModelConfig {
  // Names tensors, writes config.json and is shown on the screen; layers do not depend on it.
  const ModelFamily* family = nullptr;

  int64_t vocab_size = 0;
  int64_t max_positions = 0;  // a hard limit for learned positions and dynamic
                              // scaling, else the training length
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;

  NormKind norm = NormKind::kRmsNorm;
  NormPlace norm_place = NormPlace::kBefore;
  double norm_eps = 1e-5;
  bool norm_weight_plus_one = false;  // RMSNorms multiply by 1 + w instead of w
  bool parallel_residual = false;     // x + attention(norm(x)) + mlp(norm'(x)): both halves read x

  ActivationKind activation = ActivationKind::kSilu;
  bool gated_mlp = true;  // activation(x gate) * (x up) instead of activation(x up)

  bool learned_positions = false;  // a table that is added to the tokens' embeddings
  // The distinct kinds of attention, and each layer's index among them; no indices: all layers are
  // of the first kind.
  std::vector<AttentionKind> attention_kinds = {{.rope = RopeConfig()}};
  std::vector<int> layer_attention_kinds;
  QkNorm qk_norm = QkNorm::kNone;
  double score_scale = 0;             // of q.k; 0: 1 / sqrt(D)
  bool score_scale_by_layer = false;  // divides the scale by the layer's number, from 1
  double score_softcap = 0;           // c tanh(score / c); 0: none

  double embedding_scale = 1;          // times the tokens' embeddings
  bool round_embedding_scale = false;  // to the weights' dtype first
  double residual_scale = 1;           // times what each half adds to the residual stream
  double logits_scale = 1;             // times the logits
  double logits_softcap = 0;           // c tanh(logit / c), after the scale; 0: none

  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = true;

  // Standard deviation of initial weights. For projections into the residual stream it is divided
  // by the square root of their number, 2 num_layers, where `scale_residual_init`.
  double initializer_range = 0.02;
  bool scale_residual_init = false;

  LoraConfig lora = {};  // no part of config.json

  // "bos_token_id" and the like with their JSON text, kept for readers of the checkpoint.
  std::vector<std::pair<std::string, std::string>> token_ids;

  const AttentionKind& AttentionOf(int64_t layer) const {
    return attention_kinds[layer_attention_kinds.empty() ? 0 : layer_attention_kinds[layer]];
  }

  bool operator==(const ModelConfig&) const = default;
};

// InvalidArgument where a sequence has more tokens than a model with a hard limit has positions.
absl::Status CheckSeqLen(const ModelConfig& config, int64_t seq_len);

// InvalidArgument, with name and value, where sizes or features are out of range or contradict each
// other.
absl::Status ValidateModelConfig(const ModelConfig& config);

// The number of the model's parameters; tied ones count once.
int64_t NumParameters(const ModelConfig& config);

// Floating-point operations of a training step per token: 6 N + 12 H D K, where N counts the
// parameters without position and untied input embeddings, and K the keys that a token sees on
// average, over all layers: T/2 in a layer without a window (attention is causal), W - W^2 / (2T)
// with one. With LoRA 4 N instead of 6 N, since the model's weights are frozen; the adapters' few
// are not counted.
double TrainingFlopsPerToken(const ModelConfig& config, int64_t seq_len);

}  // namespace strake

#endif  // STRAKE_MODELS_MODEL_CONFIG_H_
