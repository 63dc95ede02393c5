#include "models/model_config.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

double NormParameters(const ModelConfig& c) {
  return c.hidden_size * (c.norm == NormKind::kLayerNorm ? 2.0 : 1.0);
}

double PositionParameters(const ModelConfig& c) {
  return c.learned_positions ? double(c.max_positions) * c.hidden_size : 0;
}

double QkNormParameters(const ModelConfig& c) {
  if (c.qk_norm == QkNorm::kNone) return 0;
  const double heads =
      c.qk_norm == QkNorm::kPerHead ? 2.0 : double(c.num_heads) + double(c.num_kv_heads);
  return heads * c.head_dim;
}

// Elements of one block's matrices, biases and norms.
double BlockParameters(const ModelConfig& c) {
  const double hidden = c.hidden_size, query = double(c.num_heads) * c.head_dim,
               qkv = query + 2.0 * c.num_kv_heads * c.head_dim;
  const double up = (c.gated_mlp ? 2.0 : 1.0) * c.intermediate_size;
  const int num_norms = c.norm_place == NormPlace::kBeforeAndAfter ? 4 : 2;
  return hidden * (qkv + query + up + c.intermediate_size) + num_norms * NormParameters(c) +
         QkNormParameters(c) + (c.qkv_bias ? qkv : 0) + (c.attention_output_bias ? hidden : 0) +
         (c.mlp_bias ? up + hidden : 0);
}

double CountParameters(const ModelConfig& c) {
  const double embedding = double(c.vocab_size) * c.hidden_size;
  return embedding * (c.tie_word_embeddings ? 1 : 2) + PositionParameters(c) +
         c.num_layers * BlockParameters(c) + NormParameters(c);
}

constexpr int64_t kMaxSize = int64_t{1} << 31;

absl::Status CheckSizes(const ModelConfig& c) {
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
  return absl::OkStatus();
}

absl::Status CheckScales(const ModelConfig& c) {
  for (const auto& [name, value] :
       std::initializer_list<std::pair<const char*, double>>{{"embedding scale", c.embedding_scale},
                                                             {"residual scale", c.residual_scale},
                                                             {"logits scale", c.logits_scale}}) {
    if (!std::isfinite(value) || value == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the ", name, " ", value, " is not a finite number other than 0"));
    }
  }
  // 0 stands for none, or the default.
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, double>>{
           {"norm's epsilon", c.norm_eps},
           {"score scale", c.score_scale},
           {"score soft cap", c.score_softcap},
           {"logits soft cap", c.logits_softcap}}) {
    if (!std::isfinite(value) || value < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the ", name, " ", value, " is not a finite number of at least 0"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPositive(const char* name, double value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("RoPE's ", name, " ", value, " is not a finite number above 0"));
}

absl::Status CheckScaling(const std::monostate& /*none*/, int64_t /*num_pairs*/) {
  return absl::OkStatus();
}

absl::Status CheckScaling(const RopeLinearScaling& s, int64_t /*num_pairs*/) {
  return CheckPositive("factor", s.factor);
}

absl::Status CheckScaling(const RopeDynamicScaling& s, int64_t /*num_pairs*/) {
  return CheckPositive("factor", s.factor);
}

absl::Status CheckScaling(const RopeWavelengthScaling& s, int64_t /*num_pairs*/) {
  STRAKE_RETURN_IF_ERROR(CheckPositive("factor", s.factor));
  STRAKE_RETURN_IF_ERROR(CheckPositive("low frequency factor", s.low_frequency_factor));
  STRAKE_RETURN_IF_ERROR(CheckPositive("original positions", double(s.original_positions)));
  if (s.high_frequency_factor > s.low_frequency_factor) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("RoPE's high frequency factor ", s.high_frequency_factor,
                   " is not above its low one ", s.low_frequency_factor));
}

absl::Status CheckScaling(const RopeYarnScaling& s, int64_t /*num_pairs*/) {
  STRAKE_RETURN_IF_ERROR(CheckPositive("factor", s.factor));
  STRAKE_RETURN_IF_ERROR(CheckPositive("original positions", double(s.original_positions)));
  STRAKE_RETURN_IF_ERROR(CheckPositive("fast rotations", s.fast_rotations));
  STRAKE_RETURN_IF_ERROR(CheckPositive("slow rotations", s.slow_rotations));
  return CheckPositive("attention factor", s.attention_factor);
}

absl::Status CheckScaling(const RopeLongScaling& s, int64_t num_pairs) {
  STRAKE_RETURN_IF_ERROR(CheckPositive("original positions", double(s.original_positions)));
  STRAKE_RETURN_IF_ERROR(CheckPositive("attention factor", s.attention_factor));
  for (const std::vector<double>* factors : {&s.short_factors, &s.long_factors}) {
    if (static_cast<int64_t>(factors->size()) != num_pairs) {
      return absl::InvalidArgumentError(absl::StrCat("RoPE has ", factors->size(),
                                                     " factors of one kind for ", num_pairs,
                                                     " pairs of features"));
    }
    for (const double factor : *factors) STRAKE_RETURN_IF_ERROR(CheckPositive("factor", factor));
  }
  return absl::OkStatus();
}

absl::Status CheckRope(const RopeConfig& rope, int64_t head_dim) {
  STRAKE_RETURN_IF_ERROR(CheckPositive("theta", rope.theta));
  const int64_t rotated = rope.rotary_dim == 0 ? head_dim : rope.rotary_dim;
  if (rotated < 0 || rotated > head_dim) {
    return absl::InvalidArgumentError(
        absl::StrCat("RoPE rotates ", rotated, " features of heads of ", head_dim));
  }
  if (rotated % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(rope.rotary_dim == 0 ? "the head size " : "the rotated part of a head ",
                     rotated, " is odd; RoPE rotates pairs"));
  }
  if (std::holds_alternative<RopeYarnScaling>(rope.scaling) && rope.theta <= 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("RoPE's theta ", rope.theta, " is not above 1, as YaRN's scaling needs"));
  }
  return std::visit([&](const auto& scaling) { return CheckScaling(scaling, rotated / 2); },
                    rope.scaling);
}

absl::Status CheckAttentionKinds(const ModelConfig& c) {
  const int64_t num_kinds = c.attention_kinds.size(), named = c.layer_attention_kinds.size();
  if (num_kinds == 0) return absl::InvalidArgumentError("the model has no kind of attention");
  for (const AttentionKind& kind : c.attention_kinds) {
    if (kind.window < 0 || kind.window >= kMaxSize) {
      return absl::InvalidArgumentError(
          absl::StrCat("the attention window ", kind.window, " is not in [0, ", kMaxSize, ")"));
    }
    if (kind.rope.has_value()) STRAKE_RETURN_IF_ERROR(CheckRope(*kind.rope, c.head_dim));
  }
  if (named != 0 && named != c.num_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("the kinds of attention name ", named, " layers, of ", c.num_layers));
  }
  for (const int kind : c.layer_attention_kinds) {
    if (kind < 0 || kind >= num_kinds) {
      return absl::InvalidArgumentError(
          absl::StrCat("the kind of attention ", kind, " is not in [0, ", num_kinds, ")"));
    }
  }
  return absl::OkStatus();
}

// Returns true if the model is defined for at most max_positions tokens.
bool HasHardLimit(const ModelConfig& c) {
  return c.learned_positions ||
         std::any_of(c.attention_kinds.begin(), c.attention_kinds.end(), [](const auto& kind) {
           return kind.rope.has_value() &&
                  std::holds_alternative<RopeDynamicScaling>(kind.rope->scaling);
         });
}

// The number of keys that a token sees on average: of T/2, or of a window W < T, W - W^2 / (2T).
double MeanVisibleKeys(int64_t window, double seq_len) {
  if (window == 0 || window >= seq_len) return seq_len / 2;
  return window - double(window) * window / (2 * seq_len);
}

}  // namespace

absl::Status CheckSeqLen(const ModelConfig& config, int64_t seq_len) {
  if (!HasHardLimit(config) || seq_len <= config.max_positions) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the sequence length ", seq_len,
                                                 " is above the model's ", config.max_positions,
                                                 " positions"));
}

absl::Status ValidateModelConfig(const ModelConfig& c) {
  STRAKE_RETURN_IF_ERROR(CheckSizes(c));
  STRAKE_RETURN_IF_ERROR(CheckScales(c));
  if (c.norm_weight_plus_one && c.norm == NormKind::kLayerNorm) {
    return absl::InvalidArgumentError("a LayerNorm's weight is not 1 + w; an RMSNorm's may be");
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
  return CheckAttentionKinds(c);
}

int64_t NumParameters(const ModelConfig& config) {
  return static_cast<int64_t>(CountParameters(config));
}

double TrainingFlopsPerToken(const ModelConfig& c, int64_t seq_len) {
  const double input = c.tie_word_embeddings ? 0 : double(c.vocab_size) * c.hidden_size;
  double visible_keys = 0;  // of all layers
  for (int64_t i = 0; i < c.num_layers; ++i) {
    visible_keys += MeanVisibleKeys(c.AttentionOf(i).window, double(seq_len));
  }
  // A product in the forward pass, and two or, without the weight's gradient, one in the backward.
  const double per_parameter = c.lora.enabled() ? 4 : 6;
  return per_parameter * (CountParameters(c) - PositionParameters(c) - input) +
         12.0 * c.num_heads * c.head_dim * visible_keys;
}

}  // namespace strake
