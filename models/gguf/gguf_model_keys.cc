#include "models/gguf/gguf_model_keys.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/ops/rope/rope.h"
#include "core/tensor/tensor.h"
#include "models/families/family.h"
#include "models/families/gguf_family.h"

namespace strake {
namespace {

// Keeps the first feature that the architecture lacks.
class FeatureCheck {
 public:
  explicit FeatureCheck(const ModelConfig& config) : config_(config) {}

  // The architecture "has WHAT", or not, as the model.
  void Use(GgufUse use, bool has, absl::string_view what) {
    if (has && use == GgufUse::kNever) Fail(absl::StrCat("has no ", what));
    if (!has && use == GgufUse::kAlways) Fail(absl::StrCat("always has ", what));
  }
  void Must(bool holds, absl::string_view otherwise) {
    if (!holds) Fail(otherwise);
  }
  const absl::Status& status() const { return status_; }

 private:
  void Fail(absl::string_view reason) {
    if (!status_.ok()) return;
    status_ = absl::UnimplementedError(
        absl::StrCat("GGUF has no form for this ", config_.family->display_name,
                     " model: its architecture \"", config_.family->gguf.architecture, "\" ",
                     reason, "; export it in the Hugging Face format"));
  }

  const ModelConfig& config_;
  absl::Status status_;
};

const GgufFamily& FamilyOf(const ModelConfig& config) { return config.family->gguf; }

bool Near(double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); }

// The scale of scores that the architecture computes without a key.
double BuiltInScoreScale(const ModelConfig& c) {
  const GgufFamily& family = FamilyOf(c);
  const bool large = family.gemma_scales && c.num_layers == family.large_num_layers;
  const int64_t dim = large ? c.hidden_size / c.num_heads : c.head_dim;
  return 1 / std::sqrt(double(dim));
}

double ScoreScaleOf(const ModelConfig& c) {
  return c.score_scale == 0 ? 1 / std::sqrt(double(c.head_dim)) : c.score_scale;
}

void CheckScales(const ModelConfig& c, FeatureCheck* check) {
  const GgufFamily& family = FamilyOf(c);
  check->Must(!c.score_scale_by_layer, "divides scores by no layer's number");
  if (family.scales) return;
  check->Must(Near(ScoreScaleOf(c), BuiltInScoreScale(c)),
              absl::StrCat("scales scores by ", BuiltInScoreScale(c), ", not ", ScoreScaleOf(c)));
  const double embedding = family.gemma_scales ? std::sqrt(double(c.hidden_size)) : 1;
  check->Must(Near(c.embedding_scale, embedding), "has no other scale of embeddings");
  check->Must(c.residual_scale == 1 && c.logits_scale == 1, "has no scale of branches and logits");
}

const char* NameOf(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kGeluTanh:
      return "GELU by tanh";
    case ActivationKind::kGelu:
      return "GELU";
    case ActivationKind::kSilu:
      return "SiLU";
    case ActivationKind::kRelu:
      return "ReLU";
  }
  return "another activation";
}

void CheckActivation(const ModelConfig& c, FeatureCheck* check, std::vector<std::string>* notices) {
  const ActivationKind has = FamilyOf(c).activation;
  if (has == ActivationKind::kGeluTanh && c.activation == ActivationKind::kGelu) {
    notices->push_back(
        "readers of GGUF compute GELU by tanh, of which this model's differs by up to 5e-4");
    return;
  }
  check->Must(c.activation == has,
              absl::StrCat("computes ", NameOf(has), ", not ", NameOf(c.activation)));
}

absl::Status CheckFeatures(const ModelConfig& c, std::vector<std::string>* notices) {
  const GgufFamily& family = FamilyOf(c);
  FeatureCheck check(c);
  CheckActivation(c, &check, notices);
  check.Use(family.qkv_bias, c.qkv_bias, "biases of queries, keys and values");
  check.Use(family.attention_output_bias, c.attention_output_bias, "a bias of attention's output");
  check.Use(family.mlp_bias, c.mlp_bias, "biases of the MLP");
  check.Use(family.score_softcap, c.score_softcap != 0, "a cap of scores");
  check.Use(family.logits_softcap, c.logits_softcap != 0, "a cap of logits");
  check.Must(c.tie_word_embeddings || family.head != GgufUse::kNever,
             "has one table for input and output embeddings");
  check.Must(family.free_head_dim || c.num_heads * c.head_dim == c.hidden_size,
             absl::StrCat("has heads of ", c.hidden_size / c.num_heads, ", not ", c.head_dim));
  check.Must(family.parallel_residual || !c.parallel_residual, "has no parallel residual");
  CheckScales(c, &check);
  return check.status();
}

// --- Attention by layer. ---

// What layers have: those with a window, and those without.
struct Layers {
  int64_t window = 0;         // 0: no layer has one
  int64_t window_period = 0;  // all but every such layer have it; 0: no such rule
  bool mixed_windows = false;
  std::optional<RopeConfig> full, windowed;
  bool mixed_ropes = false;  // among layers of a kind that are rotated
};

// Layers period - 1, 2 period - 1, ... have no window, and all others have one.
bool HasWindowPeriod(const ModelConfig& c, int64_t period) {
  for (int64_t i = 0; i < c.num_layers; ++i) {
    if ((c.AttentionOf(i).window != 0) != (i % period < period - 1)) return false;
  }
  return true;
}

void AddRope(const std::optional<RopeConfig>& rope, std::optional<RopeConfig>* of_kind,
             Layers* layers) {
  if (!rope.has_value()) return;
  layers->mixed_ropes |= of_kind->has_value() && **of_kind != *rope;
  *of_kind = rope;
}

Layers LayersOf(const ModelConfig& c) {
  Layers layers;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const AttentionKind& kind = c.AttentionOf(i);
    AddRope(kind.rope, kind.window != 0 ? &layers.windowed : &layers.full, &layers);
    if (kind.window == 0) continue;
    layers.mixed_windows |= layers.window != 0 && layers.window != kind.window;
    layers.window = layers.window == 0 ? kind.window : std::min(layers.window, kind.window);
  }
  for (int64_t period = c.num_layers + 1; period > 0 && layers.window_period == 0; --period) {
    if (HasWindowPeriod(c, period)) layers.window_period = period;
  }
  if (HasWindowPeriod(c, std::max<int64_t>(FamilyOf(c).window_period, 1))) {
    layers.window_period = std::max<int64_t>(FamilyOf(c).window_period, 1);
  }
  return layers;
}

void CheckRotatedLayers(const ModelConfig& c, FeatureCheck* check) {
  const int64_t period = FamilyOf(c).no_rope_period;
  if (c.learned_positions) return;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const bool rotated = period == 0 || (i + 1) % period != 0;
    check->Must(c.AttentionOf(i).rope.has_value() == rotated,
                absl::StrCat("has ", rotated ? "RoPE" : "no RoPE", " in layer ", i));
  }
}

bool IsUnscaled(const RopeConfig& rope) {
  return std::holds_alternative<std::monostate>(rope.scaling) ||
         std::holds_alternative<RopeDynamicScaling>(rope.scaling);
}

// The RoPE of layers with a window, beside the others'.
void CheckWindowedRope(const ModelConfig& c, const Layers& layers, FeatureCheck* check) {
  if (!layers.windowed.has_value()) return;
  const GgufWindowRope rule = FamilyOf(c).window_rope;
  const RopeConfig& windowed = *layers.windowed;
  const RopeConfig& full = layers.full.has_value() ? *layers.full : windowed;
  if (rule == GgufWindowRope::kSame) {
    check->Must(windowed == full, "has one RoPE for all layers");
    return;
  }
  check->Must(IsUnscaled(windowed), "has no scaling of RoPE in layers with a window");
  check->Must(rule == GgufWindowRope::kOwnBase || windowed.theta == full.theta,
              "has one base of RoPE for all layers");
  check->Must(
      rule == GgufWindowRope::kUnscaled || !std::holds_alternative<RopeYarnScaling>(full.scaling),
      "has no YaRN in some layers alone");
}

void CheckScaling(const ModelConfig& c, const RopeConfig& rope, FeatureCheck* check) {
  const GgufFamily& family = FamilyOf(c);
  check->Must(family.rope_freqs || !std::holds_alternative<RopeWavelengthScaling>(rope.scaling),
              "has no scaling of RoPE by wavelength");
  check->Must(family.rope_factors || !std::holds_alternative<RopeLongScaling>(rope.scaling),
              "has no scaling of RoPE by a factor for each frequency");
  if (const auto* yarn = std::get_if<RopeYarnScaling>(&rope.scaling)) {
    check->Must(yarn->whole_range, "has YaRN's range in whole features");
  }
}

absl::Status CheckAttention(const ModelConfig& c, const Layers& layers) {
  FeatureCheck check(c);
  CheckRotatedLayers(c, &check);
  check.Must(!layers.mixed_ropes, "has one RoPE for layers of a kind");
  for (const std::optional<RopeConfig>* rope : {&layers.full, &layers.windowed}) {
    if (rope->has_value()) CheckScaling(c, **rope, &check);
  }
  CheckWindowedRope(c, layers, &check);
  if (FamilyOf(c).window_period != 0) {
    check.Must(!layers.mixed_windows, "has one size of windows");
    check.Must(layers.window_period != 0,
               "has a window in all layers but every second, third and so on");
  }
  return check.status();
}

// --- Keys. ---

// Adds keys of the architecture, ARCHITECTURE.NAME.
class Keys {
 public:
  Keys(const ModelConfig& config, GgufMetadata* metadata)
      : prefix_(absl::StrCat(FamilyOf(config).architecture, ".")), metadata_(metadata) {}

  std::string Named(const char* name) const { return prefix_ + name; }
  void Size(const char* name, int64_t value) { metadata_->AddUint32(Named(name), value); }
  void Number(const char* name, double value) { metadata_->AddFloat32(Named(name), value); }
  void Bool(const char* name, bool value) { metadata_->AddBool(Named(name), value); }
  void Text(const char* name, const char* value) { metadata_->AddString(Named(name), value); }

 private:
  const std::string prefix_;
  GgufMetadata* metadata_;
};

void AddScaling(std::monostate, Keys*) {}
void AddScaling(const RopeDynamicScaling&, Keys*) {}
void AddScaling(const RopeWavelengthScaling&, Keys*) {}

void AddScaling(const RopeLinearScaling& scaling, Keys* keys) {
  keys->Text("rope.scaling.type", "linear");
  keys->Number("rope.scaling.factor", scaling.factor);
}

void AddScaling(const RopeYarnScaling& scaling, Keys* keys) {
  keys->Text("rope.scaling.type", "yarn");
  keys->Number("rope.scaling.factor", scaling.factor);
  keys->Size("rope.scaling.original_context_length", scaling.original_positions);
  keys->Number("rope.scaling.yarn_beta_fast", scaling.fast_rotations);
  keys->Number("rope.scaling.yarn_beta_slow", scaling.slow_rotations);
  // Readers multiply it by the factor of the paper's section 3.4.
  const double usual = 0.1 * std::log(scaling.factor) + 1;
  keys->Number("rope.scaling.attn_factor", scaling.attention_factor / usual);
}

void AddScaling(const RopeLongScaling& scaling, Keys* keys) {
  keys->Text("rope.scaling.type", "longrope");
  keys->Size("rope.scaling.original_context_length", scaling.original_positions);
  keys->Number("rope.scaling.attn_factor", scaling.attention_factor);
}

// The RoPE that the usual keys describe.
const std::optional<RopeConfig>& MainRope(const Layers& layers) {
  return layers.full.has_value() ? layers.full : layers.windowed;
}

void AddRopeKeys(const ModelConfig& c, const Layers& layers, Keys* keys,
                 std::vector<std::string>* notices) {
  const std::optional<RopeConfig>& rope = MainRope(layers);
  if (!rope.has_value()) return;
  keys->Size("rope.dimension_count", rope->rotary_dim == 0 ? c.head_dim : rope->rotary_dim);
  keys->Number("rope.freq_base", rope->theta);
  std::visit([&](const auto& scaling) { AddScaling(scaling, keys); }, rope->scaling);
  if (FamilyOf(c).window_rope != GgufWindowRope::kOwnBase || !layers.windowed.has_value()) return;
  keys->Number("rope.freq_base_swa", layers.windowed->theta);
  constexpr double kUsual = 10000;
  if (layers.windowed->theta != kUsual) {
    notices->push_back(absl::StrCat(keys->Named("rope.freq_base_swa"), " is ",
                                    layers.windowed->theta, ": readers that do not know the key ",
                                    "take ", kUsual));
  }
}

void AddWindowKeys(const ModelConfig& c, const Layers& layers, Keys* keys,
                   std::vector<std::string>* notices) {
  const int64_t usual = FamilyOf(c).window_period;
  if (usual == 0) return;
  if (layers.window == 0) {
    // Where readers assume windows without the key, ones that nothing exceeds.
    if (FamilyOf(c).window_rope != GgufWindowRope::kSame) return;
    keys->Size("attention.sliding_window", c.max_positions);
    return;
  }
  keys->Size("attention.sliding_window", layers.window);
  if (layers.window_period == usual) return;
  keys->Size("attention.sliding_window_pattern", layers.window_period);
  notices->push_back(absl::StrCat(keys->Named("attention.sliding_window_pattern"), " is ",
                                  layers.window_period, ": readers that do not know the key take ",
                                  usual));
}

// The tokens that the model computes with in a file whose architecture may lack its windows.
int64_t ContextLength(const ModelConfig& c, const Layers& layers,
                      std::vector<std::string>* notices) {
  const bool lacks_window = FamilyOf(c).window_period == 0 && layers.window != 0;
  if (!lacks_window || layers.window >= c.max_positions) return c.max_positions;
  notices->push_back(absl::StrCat(
      "the architecture \"", FamilyOf(c).architecture, "\" of GGUF has no windows; within ",
      layers.window, " tokens the model is the same, so that is its context_length instead of ",
      c.max_positions));
  return layers.window;
}

void AddSizes(const ModelConfig& c, int64_t context_length, Keys* keys) {
  keys->Size("vocab_size", c.vocab_size);
  keys->Size("context_length", context_length);
  keys->Size("embedding_length", c.hidden_size);
  keys->Size("block_count", c.num_layers);
  keys->Size("feed_forward_length", c.intermediate_size);
  keys->Size("attention.head_count", c.num_heads);
  keys->Size("attention.head_count_kv", c.num_kv_heads);
  keys->Size("attention.key_length", c.head_dim);
  keys->Size("attention.value_length", c.head_dim);
}

void AddFeatures(const ModelConfig& c, Keys* keys) {
  const GgufFamily& family = FamilyOf(c);
  keys->Number(c.norm == NormKind::kLayerNorm ? "attention.layer_norm_epsilon"
                                              : "attention.layer_norm_rms_epsilon",
               c.norm_eps);
  if (family.parallel_residual) keys->Bool("use_parallel_residual", c.parallel_residual);
  if (c.score_softcap != 0) keys->Number("attn_logit_softcapping", c.score_softcap);
  if (c.logits_softcap != 0) keys->Number("final_logit_softcapping", c.logits_softcap);
  if (!family.scales) return;
  keys->Number("attention.scale", ScoreScaleOf(c));
  keys->Number("embedding_scale", c.embedding_scale);
  keys->Number("residual_scale", c.residual_scale);
  keys->Number("logit_scale", 1 / c.logits_scale);  // readers divide by it
}

std::vector<double> FrequenciesOf(const RopeConfig& rope, int64_t rotary_dim) {
  std::vector<double> frequencies(rotary_dim / 2);
  RopeFrequencies(rope, /*num_positions=*/1,
                  Tensor(frequencies.data(), DType::kF64, {rotary_dim / 2}));
  return frequencies;
}

}  // namespace

absl::Status AddGgufModelKeys(const ModelConfig& config, GgufMetadata* metadata,
                              std::vector<std::string>* notices) {
  if (FamilyOf(config).architecture == nullptr) {
    return absl::UnimplementedError(absl::StrCat("GGUF has no form for ",
                                                 config.family->display_name,
                                                 " models; export it in the Hugging Face format"));
  }
  const Layers layers = LayersOf(config);
  STRAKE_RETURN_IF_ERROR(CheckFeatures(config, notices));
  STRAKE_RETURN_IF_ERROR(CheckAttention(config, layers));
  metadata->AddString("general.architecture", FamilyOf(config).architecture);
  Keys keys(config, metadata);
  AddSizes(config, ContextLength(config, layers, notices), &keys);
  AddFeatures(config, &keys);
  AddRopeKeys(config, layers, &keys, notices);
  AddWindowKeys(config, layers, &keys, notices);
  return absl::OkStatus();
}

std::vector<GgufRopeTensor> GgufRopeTensors(const ModelConfig& config) {
  const Layers layers = LayersOf(config);
  const std::optional<RopeConfig>& rope = MainRope(layers);
  if (!rope.has_value()) return {};
  if (const auto* scaling = std::get_if<RopeLongScaling>(&rope->scaling)) {
    const auto floats = [](const std::vector<double>& values) {
      return std::vector<float>(values.begin(), values.end());
    };
    return {{"rope_factors_long.weight", floats(scaling->long_factors)},
            {"rope_factors_short.weight", floats(scaling->short_factors)}};
  }
  if (!std::holds_alternative<RopeWavelengthScaling>(rope->scaling)) return {};
  const int64_t rotary_dim = rope->rotary_dim == 0 ? config.head_dim : rope->rotary_dim;
  RopeConfig unscaled = *rope;
  unscaled.scaling = {};
  const std::vector<double> from = FrequenciesOf(unscaled, rotary_dim);
  const std::vector<double> to = FrequenciesOf(*rope, rotary_dim);
  GgufRopeTensor tensor = {.name = "rope_freqs.weight"};
  for (size_t i = 0; i < to.size(); ++i) {
    tensor.values.push_back(static_cast<float>(from[i] / to[i]));
  }
  return {tensor};
}

}  // namespace strake
