// ModelConfig: the sizes and features of a decoder-only model.
#ifndef STRAKE_MODELS_MODEL_CONFIG_H_
#define STRAKE_MODELS_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/ops/rope/rope.h"

namespace strake {

struct ModelFamily;

// Norms precede each half of a layer and the head. kLayerNorm has a bias.
enum class NormKind { kLayerNorm, kRmsNorm };

// kGelu (tanh) has one matrix into the intermediate size, kSwiglu two: gate and up.
enum class Activation { kGelu, kSwiglu };

// kLearned: a table added to the tokens' embeddings. kRope: rotations of queries and keys.
enum class PositionKind { kLearned, kRope };

// Features are independent of each other.
struct ModelConfig {
  // Names tensors, writes config.json and is shown on the screen; layers do not depend on it.
  const ModelFamily* family = nullptr;

  int64_t vocab_size = 0;
  int64_t max_positions = 0;  // a hard limit for learned positions, the training length for RoPE
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;

  NormKind norm = NormKind::kRmsNorm;
  double norm_eps = 1e-5;
  Activation activation = Activation::kSwiglu;
  PositionKind positions = PositionKind::kRope;
  RopeConfig rope;              // of kRope
  bool attention_bias = false;  // of the projections into and out of attention
  bool mlp_bias = false;
  bool tie_word_embeddings = true;

  // Standard deviation of initial weights. For projections into the residual stream it is divided
  // by the square root of their number, 2 num_layers, where `scale_residual_init`.
  double initializer_range = 0.02;
  bool scale_residual_init = false;

  // "bos_token_id" and the like with their JSON text, kept for readers of the checkpoint.
  std::vector<std::pair<std::string, std::string>> token_ids;

  bool operator==(const ModelConfig&) const = default;
};

// InvalidArgument where a sequence has more tokens than the model has learned positions.
absl::Status CheckSeqLen(const ModelConfig& config, int64_t seq_len);

// InvalidArgument where sizes are out of range or contradict each other.
absl::Status ValidateModelConfig(const ModelConfig& config);

// The number of the model's parameters; tied ones count once.
int64_t NumParameters(const ModelConfig& config);

// Floating-point operations of a training step per token: 6 N + 6 L H D T, where N counts the
// parameters without position and untied input embeddings, and attention is causal (each pair
// of positions once).
double TrainingFlopsPerToken(const ModelConfig& config, int64_t seq_len);

}  // namespace strake

#endif  // STRAKE_MODELS_MODEL_CONFIG_H_
