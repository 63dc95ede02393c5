#include "models/feature_models.h"

#include <iterator>

#include "core/testing/covering_array.h"
#include "models/families/llama.h"

namespace strake::testing {
namespace {

// Largest first: the covering array then has the fewest rows.
enum Factor {
  kMlp,
  kNormKind,
  kNormPlace,
  kAttentionKinds,
  kQkNorm,
  kScoreScale,
  kScoreSoftcap,
  kTied,
  kParallelResidual,
  kLearnedPositions,
  kEmbeddingScale,
  kResidualScale,
  kLogitsScale,
  kLogitsSoftcap,
  kQkvBias,
  kOutputBias,
  kMlpBias,
  kNumFactors
};

struct Mlp {
  bool gated;
  ActivationKind activation;
};
constexpr Mlp kMlps[] = {{true, ActivationKind::kSilu},     {false, ActivationKind::kGeluTanh},
                         {true, ActivationKind::kGeluTanh}, {false, ActivationKind::kGelu},
                         {true, ActivationKind::kGelu},     {false, ActivationKind::kRelu},
                         {false, ActivationKind::kSilu}};
constexpr NormPlace kNormPlaces[] = {NormPlace::kBefore, NormPlace::kAfter,
                                     NormPlace::kBeforeAndAfter};
constexpr QkNorm kQkNorms[] = {QkNorm::kNone, QkNorm::kPerHead, QkNorm::kWhole};

void SetAttentionKinds(int level, ModelConfig* c) {
  RopeConfig rope{.theta = 100};
  const RopeConfig scaled{.scaling = RopeWavelengthScaling{2, 1, 4, 8}};
  if (level == 0) {
    c->attention_kinds = {{.rope = scaled}};
    return;
  }
  if (level == 1) {
    c->attention_kinds = {{.window = 3, .rope = scaled}, {.window = 0}};
  } else {
    if (c->head_dim > 2) rope.rotary_dim = 2;
    rope.interleaved = true;
    c->attention_kinds = {{.window = 0, .rope = scaled}, {.window = 2, .rope = rope}};
  }
  for (int64_t i = 0; i < c->num_layers; ++i) c->layer_attention_kinds.push_back(i % 2);
}

ModelConfig FromLevels(const ModelConfig& base, const std::vector<int>& levels) {
  ModelConfig c = base;
  c.family = &AnyFamily();
  const Mlp& mlp = kMlps[levels[kMlp]];
  c.gated_mlp = mlp.gated;
  c.activation = mlp.activation;
  c.norm = levels[kNormKind] == 2 ? NormKind::kLayerNorm : NormKind::kRmsNorm;
  c.norm_weight_plus_one = levels[kNormKind] == 1;
  c.norm_place = kNormPlaces[levels[kNormPlace]];
  SetAttentionKinds(levels[kAttentionKinds], &c);
  c.qk_norm = kQkNorms[levels[kQkNorm]];
  c.score_scale = levels[kScoreScale] == 1 ? 0.7 : 0;
  c.score_scale_by_layer = levels[kScoreScale] == 2;
  c.score_softcap = levels[kScoreSoftcap] == 1 ? 1.5 : 0;
  c.tie_word_embeddings = levels[kTied] == 1;
  c.parallel_residual = levels[kParallelResidual] == 1;
  c.learned_positions = levels[kLearnedPositions] == 1;
  c.embedding_scale = levels[kEmbeddingScale] == 1 ? 1.7 : 1;
  c.residual_scale = levels[kResidualScale] == 1 ? 0.6 : 1;
  c.logits_scale = levels[kLogitsScale] == 1 ? 0.8 : 1;
  c.logits_softcap = levels[kLogitsSoftcap] == 1 ? 1.2 : 0;
  c.qkv_bias = levels[kQkvBias] == 1;
  c.attention_output_bias = levels[kOutputBias] == 1;
  c.mlp_bias = levels[kMlpBias] == 1;
  return c;
}

}  // namespace

const ModelFamily& AnyFamily() {
  static const ModelFamily family = [] {
    ModelFamily any = kLlamaFamily;
    any.tensors.position_embedding = "positions";
    any.tensors.key = any.tensors.value = "$0.key_value";
    any.tensors.query_norm = "$0.query_norm";
    any.tensors.key_norm = "$0.key_norm";
    any.tensors.attention_post_norm = "$0.attention_post_norm";
    any.tensors.mlp_post_norm = "$0.mlp_post_norm";
    return any;
  }();
  return family;
}

std::vector<ModelConfig> FeatureModels(const ModelConfig& base) {
  std::vector<int> num_levels(kNumFactors, 2);
  num_levels[kMlp] = std::size(kMlps);
  for (const Factor factor : {kNormKind, kNormPlace, kAttentionKinds, kQkNorm, kScoreScale}) {
    num_levels[factor] = 3;
  }
  const auto possible = [](const FactorLevel& /*a*/, const FactorLevel& /*b*/) { return true; };
  std::vector<ModelConfig> models;
  for (const std::vector<int>& levels : CoveringArray(num_levels, possible)) {
    models.push_back(FromLevels(base, levels));
  }
  return models;
}

}  // namespace strake::testing
