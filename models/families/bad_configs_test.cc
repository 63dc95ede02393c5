// What each family refuses in a config.json: one error with file, key and value.
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/config_seeds.h"

namespace strake {
namespace {

using testing::ErrorOf;
using ::testing::HasSubstr;
using testing::Patched;
using testing::Seed;

struct BadConfig {
  const char* seed;
  const char* patch;
  const char* message;
};

TEST(BadConfigsTest, BadValuesAreNamed) {
  for (const BadConfig& bad : std::vector<BadConfig>{
           {"mistral", R"({"sliding_window": 0})",
            "my/config.json: \"sliding_window\" is 0; it must"},
           {"mistral", R"({"sliding_window": -1})", "\"sliding_window\" is -1"},
           {"mistral", R"({"sliding_window": 3000000000})", "window 3000000000 is not in"},
           {"mistral", R"({"layer_types": ["full_attention"]})", "\"layer_types\" is [\"full"},
           {"qwen2", R"({"use_sliding_window": "yes"})", "\"use_sliding_window\" is \"yes\""},
           {"qwen2_layer_types", R"({"layer_types": ["full_attention"]})",
            "\"layer_types\" has 1 values for 4 layers"},
           {"qwen2_layer_types", R"({"layer_types": ["full_attention", "chunked_attention"]})",
            "\"chunked_attention\"]; it must be a list of \"full_attention\", "
            "\"sliding_attention\""},
           {"qwen2_layer_types", R"({"use_sliding_window": false})",
            "layers are of type \"sliding_attention\" but no \"sliding_window\" is set"},
           {"smollm3", R"({"no_rope_layers": [1, 0]})", "\"no_rope_layers\" has 2 values for 4"},
           {"smollm3", R"({"no_rope_layers": [1, 0, 2, 1]})", "\"no_rope_layers\" is [1,0,2,1]"},
           {"olmo3", R"({"rope_theta": 1000})", "\"rope_theta\" is 1000; versions of transformers"},
           {"olmo3", R"({"rope_scaling": {"truncate": false}})", "\"truncate\": false is not"},
           {"olmo3_nested", R"({"rope_parameters": {"rope_theta": 3}})",
            "\"rope_theta\" is 3; it must stand in \"full_attention\" or"},
           {"gemma2", R"({"attn_logit_softcapping": 0})",
            "\"attn_logit_softcapping\" is 0; it must"},
           {"gemma2", R"({"final_logit_softcapping": -3})", "\"final_logit_softcapping\" is -3"},
           {"gemma2", R"({"use_bidirectional_attention": true})",
            "\"use_bidirectional_attention\": true is not supported"},
           {"gemma2", R"({"query_pre_attn_scalar": 0})", "\"query_pre_attn_scalar\" is 0"},
           {"gemma3_text", R"({"attn_logit_softcapping": 50})",
            "\"attn_logit_softcapping\" is 50; transformers does not apply it"},
           {"gemma3_text", R"({"layer_types": ["full_attention", "full_attention",
                               "full_attention", "full_attention"]})",
            "\"sliding_window_pattern\" is 2 but \"layer_types\" has another pattern"},
           {"gemma3_text", R"({"sliding_window_pattern": 0})", "\"sliding_window_pattern\" is 0"},
           {"phi3", R"({"partial_rotary_factor": 0.4})", "rotates 3 features; RoPE rotates pairs"},
           {"phi3", R"({"partial_rotary_factor": 0.1})", "rotates 0 features"},
           {"phi3", R"({"rope_scaling": {"long_factor": [1]}})",
            "\"long_factor\" has 1 numbers; 2"},
           {"phi3", R"({"rope_scaling": {"long_factor": [1, 0]}})", "\"long_factor\" is [1,0]; it"},
           {"phi3", R"({"rope_scaling": {"type": "linear"}})", "\"type\" is \"linear\"; supported"},
           {"gpt_neox", R"({"rope_theta": 7})",
            "\"rope_theta\" is 7 but the file's \"rotary_emb_base\" is 1000"},
           {"gpt_neox", R"({"partial_rotary_factor": 1})",
            "\"partial_rotary_factor\" is 1 but the file's \"rotary_pct\" is 0.5"},
           {"gpt_neox", R"({"head_dim": 4})", "\"head_dim\" is 4; the family's is"},
           {"gpt_neox", R"({"num_key_value_heads": 2})",
            "\"num_key_value_heads\" is 2; the family"},
           {"granite", R"({"attention_multiplier": 0})", "\"attention_multiplier\" is 0"},
           {"stablelm", R"({"qk_layernorm": true})", "\"qk_layernorm\": true is not supported"},
           {"stablelm", R"({"use_parallel_residual": true})", "true is not supported"},
           {"stablelm", R"({"hidden_size": 30})", "\"hidden_size\" 30 is not a multiple"},
           {"gpt_bigcode", R"({"add_cross_attention": true})", "true is not supported"},
           {"gpt2_options", R"({"activation_function": "quick_gelu"})", "is \"quick_gelu\""},
           {"llama_yarn", R"({"rope_scaling": {"beta_fast": 0.5}})", "\"beta_fast\" must be at"},
           {"llama_dynamic", R"({"rope_parameters": {"factor": 0.5}})",
            "\"factor\" is 0.5; it must"},
           {"llama_longrope", R"({"rope_scaling": {"original_max_position_embeddings": 8}})",
            "\"original_max_position_embeddings\" is 8 but the file's is 16"},
       }) {
    EXPECT_THAT(ErrorOf(Patched(bad.seed, bad.patch)), HasSubstr(bad.message))
        << bad.seed << bad.patch;
  }
}

TEST(BadConfigsTest, ModelsOfOtherKindsAreRefusedWithTheReason) {
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {Seed("unsupported_mla"),
            "my/config.json: \"model_type\" is \"deepseek_v3\", with \"kv_lora_rank\" 8: "
            "multi-head "
            "latent attention is not supported; supported: \"gemma2\", "},
           {R"({"model_type": "mixtral", "num_local_experts": 8})",
            "with \"num_local_experts\" 8: mixture of experts is not supported"},
           {R"({"model_type": "mamba", "state_size": 16})", "state-space layers"},
           {R"({"model_type": "t5", "is_encoder_decoder": true})", "an encoder beside the decoder"},
           {R"({"model_type": "bert", "type_vocab_size": 2, "is_encoder_decoder": false})",
            "with \"type_vocab_size\" 2: an encoder is not"},
           {R"({"model_type": "opt"})", "\"model_type\" is \"opt\", not supported; supported: "},
           {R"({"model_type": 3})", "\"model_type\" is 3, not supported"},
           {Seed("unsupported_parts"),
            "\"model_type\" is \"gemma3\", a model of several parts: its text part is "
            "\"text_config\""
            ", of type \"gemma3_text\": give that part, and its tensors, as a model of its own"},
           {R"({"model_type": "llava", "text_config": {"model_type": "opt"}})",
            "of type \"opt\", which is not supported either"}}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr(message));
  }
}

}  // namespace
}  // namespace strake
