#include "tests/layout_model.h"

#include <algorithm>

#include "glog/logging.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/feature_models.h"

namespace strake::testing {
namespace {

ModelConfig AnyFeatures() {
  ModelConfig c;
  c.family = &AnyFamily();
  return c;
}

// Four norms and per-head ones of weights 1 + w, soft caps, a window in the first layer.
ModelConfig Capped() {
  ModelConfig c = AnyFeatures();
  c.norm_place = NormPlace::kBeforeAndAfter;
  c.norm_weight_plus_one = true;
  c.activation = ActivationKind::kGeluTanh;
  c.qk_norm = QkNorm::kPerHead;
  c.attention_kinds = {{.window = 3, .rope = RopeConfig{.theta = 100}}, {.rope = RopeConfig()}};
  c.layer_attention_kinds = {0, 1};
  c.score_scale = 0.5;
  c.score_softcap = 2;
  c.embedding_scale = 1.5;
  c.logits_softcap = 3;
  return c;
}

// Norms after each half and over whole projections; a window in the second layer.
ModelConfig NormsAfter() {
  ModelConfig c = AnyFeatures();
  c.norm_place = NormPlace::kAfter;
  c.qk_norm = QkNorm::kWhole;
  c.attention_kinds = {{.rope = RopeConfig{.scaling = RopeLinearScaling{4}}},
                       {.window = 2, .rope = RopeConfig{.theta = 100}}};
  c.layer_attention_kinds = {0, 1};
  return c;
}

// Both halves read the same stream; LayerNorms, biases, pairs of neighbouring features.
ModelConfig Parallel() {
  ModelConfig c = AnyFeatures();
  c.norm = NormKind::kLayerNorm;
  c.parallel_residual = true;
  c.gated_mlp = false;
  c.activation = ActivationKind::kGelu;
  c.attention_kinds = {{.rope = RopeConfig{.interleaved = true}}};
  c.qkv_bias = c.attention_output_bias = c.mlp_bias = true;
  return c;
}

// Scales, and a layer without positions.
ModelConfig Scaled() {
  ModelConfig c = AnyFeatures();
  c.attention_kinds = {{.rope = RopeConfig()}, {}};
  c.layer_attention_kinds = {0, 1};
  c.qk_norm = QkNorm::kWhole;
  c.embedding_scale = 2;
  c.residual_scale = 0.7;
  c.logits_scale = 0.6;
  c.score_scale_by_layer = true;
  c.gated_mlp = false;
  c.activation = ActivationKind::kSilu;
  c.learned_positions = true;
  return c;
}

}  // namespace

const std::vector<LayoutModel>& LayoutModels() {
  static const auto* models =
      new std::vector<LayoutModel>{{"gpt2", kGpt2Family.new_config(), false},
                                   {"llama", kLlamaFamily.new_config(), true},
                                   {"capped", Capped(), true},
                                   {"norms_after", NormsAfter(), true},
                                   {"parallel", Parallel(), true},
                                   {"scaled", Scaled(), true}};
  return *models;
}

const LayoutModel& FindLayoutModel(const std::string& name) {
  const auto found = std::find_if(LayoutModels().begin(), LayoutModels().end(),
                                  [&](const LayoutModel& model) { return model.name == name; });
  CHECK(found != LayoutModels().end()) << "no model " << name;
  return *found;
}

}  // namespace strake::testing
