#include "models/model_config.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "models/families/llama.h"
#include "models/tiny_model.h"

namespace strake {
namespace {

ModelConfig Tiny() { return testing::TinyConfig(&kLlamaFamily, /*tied=*/true); }

RopeConfig& Rope(ModelConfig& c) { return *c.attention_kinds[0].rope; }

TEST(ModelConfigTest, EveryContradictionNamesItsValue) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<std::function<void(ModelConfig&)>, std::string>> cases = {
      {[](auto& c) { c.head_dim = 0; }, "head size 0 is not in [1, 2147483648)"},
      {[](auto& c) { c.head_dim = 5; }, "the head size 5 is odd; RoPE rotates pairs"},
      {[](auto& c) { c.num_heads = 3, c.num_kv_heads = 2; },
       "the number of heads 3 is not a multiple of the number of key/value heads 2"},
      {[](auto& c) { c.embedding_scale = 0; },
       "the embedding scale 0 is not a finite number other than 0"},
      {[&](auto& c) { c.residual_scale = nan; },
       "the residual scale nan is not a finite number other than 0"},
      {[&](auto& c) { c.logits_scale = infinity; },
       "the logits scale inf is not a finite number other than 0"},
      {[](auto& c) { c.norm_eps = -1; },
       "the norm's epsilon -1 is not a finite number of at least 0"},
      {[](auto& c) { c.score_scale = -0.5; },
       "the score scale -0.5 is not a finite number of at least 0"},
      {[](auto& c) { c.score_softcap = -30; },
       "the score soft cap -30 is not a finite number of at least 0"},
      {[&](auto& c) { c.logits_softcap = infinity; },
       "the logits soft cap inf is not a finite number of at least 0"},
      {[](auto& c) { c.norm = NormKind::kLayerNorm, c.norm_weight_plus_one = true; },
       "a LayerNorm's weight is not 1 + w; an RMSNorm's may be"},
      {[](auto& c) { c.attention_kinds.clear(); }, "the model has no kind of attention"},
      {[](auto& c) { c.attention_kinds[0].window = -1; },
       "the attention window -1 is not in [0, 2147483648)"},
      {[](auto& c) { c.layer_attention_kinds = {0}; },
       "the kinds of attention name 1 layers, of 2"},
      {[](auto& c) {
         c.layer_attention_kinds = {0, 1};
       },
       "the kind of attention 1 is not in [0, 1)"},
      {[](auto& c) {
         c.layer_attention_kinds = {-1, 0};
       },
       "the kind of attention -1 is not in [0, 1)"},
      {[](auto& c) { Rope(c).theta = 0; }, "RoPE's theta 0 is not a finite number above 0"},
      {[](auto& c) { Rope(c).rotary_dim = 3; },
       "the rotated part of a head 3 is odd; RoPE rotates pairs"},
      {[](auto& c) { Rope(c).rotary_dim = 8; }, "RoPE rotates 8 features of heads of 6"},
      {[](auto& c) { Rope(c).rotary_dim = -2; }, "RoPE rotates -2 features of heads of 6"},
      {[](auto& c) { Rope(c).scaling = RopeLinearScaling{-2}; },
       "RoPE's factor -2 is not a finite number above 0"},
      {[](auto& c) {
         Rope(c).scaling = RopeWavelengthScaling{8, 4, 4, 16};
       },
       "RoPE's high frequency factor 4 is not above its low one 4"},
      {[](auto& c) { Rope(c).scaling = RopeYarnScaling{.factor = 4}; },
       "RoPE's original positions 0 is not a finite number above 0"},
      {[](auto& c) {
         Rope(c).scaling = RopeLongScaling{
             .short_factors = {1, 1, 1}, .long_factors = {1, 1}, .original_positions = 4};
       },
       "RoPE has 2 factors of one kind for 3 pairs of features"},
      {[](auto& c) {
         Rope(c).scaling = RopeLongScaling{
             .short_factors = {1, 0, 1}, .long_factors = {1, 1, 1}, .original_positions = 4};
       },
       "RoPE's factor 0 is not a finite number above 0"}};
  ASSERT_TRUE(ValidateModelConfig(Tiny()).ok());
  for (const auto& [change, message] : cases) {
    ModelConfig config = Tiny();
    change(config);
    EXPECT_EQ(ValidateModelConfig(config).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ValidateModelConfig(config).message(), message);
  }
}

// The definition: the keys that each of T tokens sees.
TEST(ModelConfigTest, FlopsCountTheKeysOfWindows) {
  constexpr int64_t kSeqLen = 4096, kWindow = 256;
  const ModelConfig full = Tiny();
  ModelConfig windowed = full;
  windowed.attention_kinds.push_back({.window = kWindow});
  windowed.layer_attention_kinds = {0, 1};
  double all = 0, seen = 0;
  for (int64_t i = 0; i < kSeqLen; ++i) {
    all += double(i) + 0.5;
    seen += std::min<double>(double(i) + 0.5, kWindow);
  }
  const double per_key = 12.0 * full.num_heads * full.head_dim;
  EXPECT_NEAR(TrainingFlopsPerToken(full, kSeqLen) - TrainingFlopsPerToken(windowed, kSeqLen),
              per_key * (all - seen) / kSeqLen, 1e-9 * per_key * all / kSeqLen);
  EXPECT_EQ(TrainingFlopsPerToken(full, kWindow), TrainingFlopsPerToken(windowed, kWindow));
}

}  // namespace
}  // namespace strake
