#include "models/model_config.h"

#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

double NormParameters(const ModelConfig& c) {
  return c.hidden_size * (c.norm == NormKind::kLayerNorm ? 2.0 : 1.0);
}

double PositionParameters(const ModelConfig& c) {
  return c.learned_positions ? double(c.max_positions) * c.hidden_size : 0;
}

// Elements of one block's matrices, biases and norms.
double BlockParameters(const ModelConfig& c) {
  const double hidden = c.hidden_size, query = double(c.num_heads) * c.head_dim,
               qkv = query + 2.0 * c.num_kv_heads * c.head_dim;
  const double up = (c.gated_mlp ? 2.0 : 1.0) * c.intermediate_size;
  return hidden * (qkv + query + up + c.intermediate_size) + 2 * NormParameters(c) +
         (c.qkv_bias ? qkv : 0) + (c.attention_output_bias ? hidden : 0) +
         (c.mlp_bias ? up + hidden : 0);
}

double CountParameters(const ModelConfig& c) {
  const double embedding = double(c.vocab_size) * c.hidden_size;
  return embedding * (c.tie_word_embeddings ? 1 : 2) + PositionParameters(c) +
         c.num_layers * BlockParameters(c) + NormParameters(c);
}

}  // namespace

absl::Status CheckSeqLen(const ModelConfig& config, int64_t seq_len) {
  if (!config.learned_positions || seq_len <= config.max_positions) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("the sequence length ", seq_len,
                                                 " is above the model's ", config.max_positions,
                                                 " positions"));
}

absl::Status ValidateModelConfig(const ModelConfig& c) {
  constexpr int64_t kMaxSize = int64_t{1} << 31;
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, int64_t>>{
           {"vocabulary", c.vocab_size},
           {"number of positions", c.max_positions},
           {"hidden size", c.hidden_size},
           {"number of layers", c.num_layers},
           {"number of heads", c.num_heads},
           {"number of key/value heads", c.num_kv_heads},
           {"head size", c.head_dim},
           {"intermediate size", c.intermediate_size}}) {
    if (value < 1 || value >= kMaxSize) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " ", value, " is not in [1, ", kMaxSize, ")"));
    }
  }
  if (c.num_heads % c.num_kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the number of heads ", c.num_heads,
                     " is not a multiple of the number of key/value heads ", c.num_kv_heads));
  }
  for (const AttentionKind& kind : c.attention_kinds) {
    if (kind.rope.has_value() && kind.rope->rotary_dim == 0 && c.head_dim % 2 != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the head size ", c.head_dim, " is odd; RoPE rotates pairs"));
    }
  }
  if (CountParameters(c) > 0x1p50) {
    return absl::InvalidArgumentError(absl::StrCat("the sizes make ", CountParameters(c),
                                                   " parameters; at most 2^50 are handled"));
  }
  // Each layer is an object, even in a plan that allocates no weights.
  constexpr int64_t kMaxLayers = int64_t{1} << 14;
  if (c.num_layers > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("number of layers ", c.num_layers, " is above ", kMaxLayers));
  }
  return absl::OkStatus();
}

int64_t NumParameters(const ModelConfig& config) {
  return static_cast<int64_t>(CountParameters(config));
}

double TrainingFlopsPerToken(const ModelConfig& c, int64_t seq_len) {
  const double input = c.tie_word_embeddings ? 0 : double(c.vocab_size) * c.hidden_size;
  return 6 * (CountParameters(c) - PositionParameters(c) - input) +
         6.0 * c.num_layers * c.num_heads * c.head_dim * seq_len;
}

}  // namespace strake
