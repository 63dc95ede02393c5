#include "tests/layout_model.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"

namespace strake::testing {
namespace {

constexpr char kCommon[] = R"({
    "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 6,
    "intermediate_size": 48, "vocab_size": 47, "max_position_embeddings": 16})";
constexpr char kGpt2[] = R"({
    "n_layer": 2, "n_embd": 24, "n_head": 6, "vocab_size": 47, "n_positions": 16})";

struct Case {
  const char* name;
  const char* sizes;
  const char* keys;
  bool grouped_heads = true;
};

constexpr Case kCases[] = {
    {"gpt2", kGpt2, "{}", false},
    {"llama", kCommon, "{}"},
    {"gemma2", kCommon,
     R"({"head_dim": 4, "sliding_window": 3, "query_pre_attn_scalar": 9,
         "layer_types": ["sliding_attention", "full_attention"],
         "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0})"},
    {"gemma3_text", kCommon,
     R"({"head_dim": 4, "sliding_window": 3, "query_pre_attn_scalar": 9,
         "layer_types": ["sliding_attention", "full_attention"],
         "rope_theta": 1000.0, "rope_local_base_freq": 100.0})"},
    {"gpt_bigcode", kGpt2, R"({"multi_query": true})"},
    {"gpt_neox", kCommon, R"({"rotary_pct": 0.5, "use_parallel_residual": true})", false},
    {"granite", kCommon,
     R"({"embedding_multiplier": 1.5, "residual_multiplier": 0.7, "attention_multiplier": 0.4,
         "logits_scaling": 1.25, "attention_bias": true, "mlp_bias": true})"},
    {"mistral", kCommon, R"({"head_dim": 4, "sliding_window": 3})"},
    {"olmo2", kCommon, "{}"},
    {"olmo3", kCommon,
     R"({"sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"]})"},
    {"phi3", kCommon,
     R"({"partial_rotary_factor": 0.5, "sliding_window": 3, "pad_token_id": 0,
         "original_max_position_embeddings": 8,
         "rope_scaling": {"type": "longrope", "short_factor": [1.25], "long_factor": [2.0]}})"},
    {"qwen2", kCommon,
     R"({"use_sliding_window": true, "sliding_window": 3, "max_window_layers": 1})"},
    {"qwen3", kCommon, R"({"head_dim": 4, "attention_bias": true})"},
    {"smollm3", kCommon, R"({"no_rope_layers": [1, 0], "pad_token_id": 0})"},
    {"stablelm", kCommon, R"({"partial_rotary_factor": 0.5, "use_qkv_bias": true})"},
};

LayoutModel Read(const Case& c) {
  nlohmann::json json = nlohmann::json::parse(c.sizes);
  json.merge_patch(nlohmann::json::parse(c.keys));
  json["model_type"] = c.name;
  auto config = ParseHfConfig(json.dump(), c.name, nullptr);
  CHECK(config.ok()) << config.status();
  return {c.name, *std::move(config), c.grouped_heads};
}

}  // namespace

const std::vector<LayoutModel>& LayoutModels() {
  static const auto* models = [] {
    auto* all = new std::vector<LayoutModel>;
    for (const Case& c : kCases) all->push_back(Read(c));
    return all;
  }();
  return *models;
}

const LayoutModel& FindLayoutModel(const std::string& name) {
  const auto found = std::find_if(LayoutModels().begin(), LayoutModels().end(),
                                  [&](const LayoutModel& model) { return model.name == name; });
  CHECK(found != LayoutModels().end()) << "no model " << name;
  return *found;
}

}  // namespace strake::testing
