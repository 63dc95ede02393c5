// Each family's tensors and keys in GGUF, against definitions in the terms of its own files.
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/memory/parameter_arena.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/config_seeds.h"
#include "models/families/families.h"
#include "models/gguf/gguf_model_keys.h"
#include "models/gguf/gguf_reader.h"
#include "models/gguf/gguf_weights.h"
#include "models/gguf/gguf_writer.h"
#include "models/sliced_models.h"
#include "models/transformer.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GgufFile;
using testing::GgufFileTensor;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Patched;
using testing::ReadFile;
using testing::TempDirectory;

struct Case {
  std::string seed, patch = "{}";
  bool interleaved_rope = false;   // rows of queries and keys change places
  bool alternating_heads = false;  // of the family's tensor of queries, keys and values
  bool norms_after = false;        // post_attention_layernorm stands after attention
  bool copied_head = false;
  std::vector<std::string> rope_tensors = {};
};

const std::vector<Case>& Cases() {
  static const auto* const cases = new std::vector<Case>{
      {.seed = "gemma2",
       .patch = R"({"attention_bias": false, "final_logit_softcapping": 3,
                    "query_pre_attn_scalar": 6})",
       .norms_after = true},
      {.seed = "gemma3_text", .patch = R"({"query_pre_attn_scalar": 6})", .norms_after = true},
      {.seed = "gpt2"},
      {.seed = "gpt_bigcode"},
      {.seed = "gpt_bigcode_heads",
       .patch = R"({"activation_function": null})",
       .alternating_heads = true},
      {.seed = "gpt_neox",
       .patch = R"({"attention_bias": true, "hidden_act": "gelu", "tie_word_embeddings": true})",
       .alternating_heads = true,
       .copied_head = true},
      // So many tokens that their table is padded.
      {.seed = "gpt2_options",
       .patch = R"({"activation_function": null, "scale_attn_by_inverse_layer_idx": false,
                    "vocab_size": 4100, "tie_word_embeddings": false})"},
      {.seed = "granite", .interleaved_rope = true},
      {.seed = "llama", .interleaved_rope = true, .rope_tensors = {"rope_freqs.weight"}},
      {.seed = "llama_biases", .interleaved_rope = true, .rope_tensors = {"rope_freqs.weight"}},
      {.seed = "llama_longrope",
       .interleaved_rope = true,
       .rope_tensors = {"rope_factors_long.weight", "rope_factors_short.weight"}},
      {.seed = "mistral", .interleaved_rope = true},
      {.seed = "olmo2", .patch = R"({"attention_bias": false})", .norms_after = true},
      {.seed = "olmo3",
       .patch = R"({"tie_word_embeddings": true})",
       .norms_after = true,
       .copied_head = true},
      {.seed = "phi3", .rope_tensors = {"rope_factors_long.weight", "rope_factors_short.weight"}},
      {.seed = "qwen2"},
      {.seed = "qwen3", .patch = R"({"attention_bias": false})"},
      {.seed = "smollm3",
       .patch = R"({"attention_bias": false, "mlp_bias": false, "no_rope_layers": [1, 1, 1, 0]})",
       .interleaved_rope = true},
      {.seed = "stablelm"},
  };
  return *cases;
}

ModelConfig ConfigOf(const std::string& seed, const std::string& patch) {
  const auto config = ParseHfConfig(Patched(seed, patch), seed, nullptr);
  CHECK(config.ok()) << config.status();
  return *config;
}

// A tensor of the family's files, [in, out] or [rows, columns].
struct FullTensor {
  int64_t rows = 0, columns = 0;
  bool vector = false, table = false;
  std::vector<float> values;
};

// Every number of the model is another integer.
std::map<std::string, FullTensor> FullTensors(ParameterArena& arena) {
  float* values = arena.values().data<float>();
  for (int64_t i = 0; i < arena.num_elements(); ++i) values[i] = static_cast<float>(i);
  std::map<std::string, FullTensor> tensors;
  for (const ParameterRecord& record : arena.records()) {
    for (const ParameterSegment& segment : record.segments) {
      FullTensor& tensor = tensors[segment.name];
      tensor.rows = segment.slice.full_rows;
      tensor.columns = segment.slice.full_columns;
      tensor.vector = record.shape().size() == 1;
      tensor.values.assign(tensor.rows * tensor.columns, NAN);
    }
  }
  testing::ForEachElement(arena,
                          [&](const ParameterSegment& segment, int64_t full_index, int64_t index) {
                            tensors.at(segment.name).values[full_index] = values[index];
                          });
  return tensors;
}

// "model.layers.3.mlp.up_proj.weight" to "blk.3.ffn_up.weight".
std::string GgufName(std::string name, const Case& c) {
  const std::map<std::string, std::string> parts = {
      {"embed_tokens", "token_embd"},
      {"wte", "token_embd"},
      {"embed_in", "token_embd"},
      {"wpe", "position_embd"},
      {"lm_head", "output"},
      {"embed_out", "output"},
      {"norm", "output_norm"},
      {"ln_f", "output_norm"},
      {"final_layer_norm", "output_norm"},
      {"input_layernorm", "attn_norm"},
      {"ln_1", "attn_norm"},
      {"post_attention_layernorm", c.norms_after ? "post_attention_norm" : "ffn_norm"},
      {"pre_feedforward_layernorm", "ffn_norm"},
      {"ln_2", "ffn_norm"},
      {"post_feedforward_layernorm", "post_ffw_norm"},
      {"q_proj", "attn_q"},
      {"k_proj", "attn_k"},
      {"v_proj", "attn_v"},
      {"qkv_proj", "attn_qkv"},
      {"c_attn", "attn_qkv"},
      {"query_key_value", "attn_qkv"},
      {"q_norm", "attn_q_norm"},
      {"k_norm", "attn_k_norm"},
      {"o_proj", "attn_output"},
      {"attn.c_proj", "attn_output"},
      {"dense", "attn_output"},
      {"gate_proj", "ffn_gate"},
      {"up_proj", "ffn_up"},
      {"gate_up_proj", "ffn_up"},
      {"c_fc", "ffn_up"},
      {"dense_h_to_4h", "ffn_up"},
      {"down_proj", "ffn_down"},
      {"mlp.c_proj", "ffn_down"},
      {"dense_4h_to_h", "ffn_down"},
  };
  const std::string suffix = name.substr(name.rfind('.'));
  name.resize(name.size() - suffix.size());
  std::string block;
  for (const char* list : {"model.layers.", "gpt_neox.layers.", "transformer.h."}) {
    absl::string_view rest = name;
    if (!absl::ConsumePrefix(&rest, list)) continue;
    block = absl::StrCat("blk.", std::string(rest.substr(0, rest.find('.'))), ".");
  }
  for (const bool with_parent : {true, false}) {
    size_t dot = name.rfind('.');
    if (with_parent && dot != std::string::npos && dot > 0) dot = name.rfind('.', dot - 1);
    const auto found = parts.find(dot == std::string::npos ? name : name.substr(dot + 1));
    if (found != parts.end()) return block + found->second + suffix;
  }
  return "unknown " + name;
}

// The row of the family's tensor, [out, in], that is row `row` of GGUF's.
int64_t SourceRow(const std::string& name, const ModelConfig& config, const Case& c, int64_t row) {
  const int64_t d = config.head_dim, e = config.num_heads * d;
  if (c.alternating_heads && absl::StrContains(name, "attn_qkv")) {
    const int64_t part = row / e, head = row % e / d;
    return (head * 3 + part) * d + row % d;
  }
  const bool rotated = absl::StrContains(name, "attn_q.") || absl::StrContains(name, "attn_k.");
  if (c.interleaved_rope && rotated) {
    const int64_t pair = row % d / 2, side = row % 2;
    return row / d * d + side * (d / 2) + pair;
  }
  return row;
}

// GGUF's tensor of a family's tensor, by definition.
GgufFileTensor Expected(const std::string& name, const FullTensor& full, const ModelConfig& config,
                        const Case& c) {
  GgufFileTensor tensor;
  const bool table = absl::StartsWith(name, "token_embd") || absl::StartsWith(name, "output.") ||
                     absl::StartsWith(name, "position_embd");
  const float offset = config.norm_weight_plus_one && absl::StrContains(name, "norm") ? 1 : 0;
  if (full.vector) {
    tensor.dims = {full.columns};
    for (int64_t i = 0; i < full.columns; ++i) {
      tensor.values.push_back(full.values[SourceRow(name, config, c, i)] + offset);
    }
  } else if (table) {
    tensor.dims = {full.columns, full.rows};
    tensor.values = full.values;
  } else {
    tensor.dims = {full.rows, full.columns};
    for (int64_t row = 0; row < full.columns; ++row) {
      const int64_t source = SourceRow(name, config, c, row);
      for (int64_t in = 0; in < full.rows; ++in) {
        tensor.values.push_back(full.values[in * full.columns + source]);
      }
    }
  }
  return tensor;
}

GgufFile Export(const ModelConfig& config, const ParameterArena& arena, GgufDType dtype,
                std::vector<std::string>* notices) {
  TempDirectory directory;
  const std::string path = directory / "model.gguf";
  GgufMetadata metadata;
  const absl::Status added = AddGgufModelKeys(config, &metadata, notices);
  CHECK(added.ok()) << added;
  const std::vector<GgufTensor> tensors = GgufTensorsOf(config, arena, dtype);
  std::vector<GgufTensorSpec> specs;
  for (const GgufTensor& tensor : tensors) specs.push_back(tensor.spec);
  auto writer = GgufWriter::Create(path, metadata, specs);
  CHECK(writer.ok()) << writer.status();
  const auto fetch = [&](int parameter) -> absl::StatusOr<Tensor> {
    const ParameterRecord& record = arena.records()[parameter];
    return arena.values().Rows(record.offset, record.end());
  };
  const absl::Status written = WriteGgufTensors(tensors, arena, fetch, &*writer);
  CHECK(written.ok()) << written;
  CHECK(writer->Finish().ok());
  return GgufFile(ReadFile(path));
}

class GgufModelTest : public ::testing::TestWithParam<Case> {};

TEST_P(GgufModelTest, TensorsAreTheFamilys) {
  const Case& c = GetParam();
  const ModelConfig config = ConfigOf(c.seed, c.patch);
  ParameterArena arena;
  const Transformer model(config, /*max_seq_len=*/1, &arena);
  ASSERT_TRUE(arena.Allocate(DType::kF32, /*with_gradients=*/false).ok());
  ASSERT_LT(arena.num_elements(), 1 << 24);
  const std::map<std::string, FullTensor> full = FullTensors(arena);
  std::vector<std::string> notices;
  const GgufFile file = Export(config, arena, GgufDType::kF32, &notices);

  std::map<std::string, GgufFileTensor> expected;
  for (const auto& [name, tensor] : full) {
    const std::string gguf_name = GgufName(name, c);
    expected[gguf_name] = Expected(gguf_name, tensor, config, c);
  }
  if (c.copied_head) expected["output.weight"] = expected["token_embd.weight"];
  std::set<std::string> names(c.rope_tensors.begin(), c.rope_tensors.end());
  for (const auto& [name, tensor] : expected) {
    names.insert(name);
    ASSERT_TRUE(file.tensors.contains(name)) << name;
    EXPECT_EQ(file.tensors.at(name).dims, tensor.dims) << name;
    EXPECT_TRUE(file.tensors.at(name).values == tensor.values) << name;
  }
  EXPECT_EQ(std::set<std::string>(file.tensor_names.begin(), file.tensor_names.end()), names);
  EXPECT_EQ(file.tensors.size(), names.size());
}

TEST_P(GgufModelTest, KeysHaveTheSizes) {
  const ModelConfig config = ConfigOf(GetParam().seed, GetParam().patch);
  ParameterArena arena;
  const Transformer model(config, /*max_seq_len=*/1, &arena);
  ASSERT_TRUE(arena.Allocate(DType::kF32, /*with_gradients=*/false).ok());
  std::vector<std::string> notices;
  const GgufFile file = Export(config, arena, GgufDType::kBf16, &notices);
  const std::string architecture = file.keys.at("general.architecture");
  const auto key = [&](const std::string& name) {
    return file.keys.at(absl::StrCat(architecture, ".", name));
  };
  EXPECT_EQ(key("vocab_size"), config.vocab_size);
  EXPECT_EQ(key("embedding_length"), config.hidden_size);
  EXPECT_EQ(key("block_count"), config.num_layers);
  EXPECT_EQ(key("feed_forward_length"), config.intermediate_size);
  EXPECT_EQ(key("attention.head_count"), config.num_heads);
  EXPECT_EQ(key("attention.head_count_kv"), config.num_kv_heads);
  EXPECT_EQ(key("attention.key_length"), config.head_dim);
  EXPECT_LE(key("context_length"), config.max_positions);
  const bool rms = config.norm == NormKind::kRmsNorm;
  EXPECT_EQ(key(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
            static_cast<float>(config.norm_eps));
  // Vectors and the table of positions stay F32.
  for (const auto& [name, tensor] : file.tensors) {
    const bool f32 = tensor.dims.size() == 1 || name == "position_embd.weight";
    EXPECT_EQ(tensor.dtype, f32 ? 0u : 30u) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GgufModelTest, ::testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.seed; });

TEST(GgufModelKeysTest, EveryFamilyIsTested) {
  std::set<std::string> tested;
  for (const Case& c : Cases()) tested.insert(ConfigOf(c.seed, c.patch).family->model_type);
  for (const ModelFamily* family : ModelFamilies()) {
    EXPECT_TRUE(tested.contains(family->model_type)) << family->model_type;
  }
}

// The keys of a model without its tensors.
struct Keys {
  Keys(const std::string& seed, const std::string& patch) {
    GgufMetadata metadata;
    status = AddGgufModelKeys(ConfigOf(seed, patch), &metadata, &notices);
    if (!status.ok()) return;
    TempDirectory directory;
    auto writer = GgufWriter::Create(directory / "a", metadata, {});
    CHECK(writer.ok() && writer->Finish().ok());
    values = GgufFile(ReadFile(directory / "a")).keys;
  }
  absl::Status status;
  std::vector<std::string> notices;
  std::map<std::string, nlohmann::json> values;
};

TEST(GgufModelKeysTest, Scales) {
  const Keys keys("granite", "{}");
  EXPECT_EQ(keys.values.at("granite.attention.scale"), 0.3f);
  EXPECT_EQ(keys.values.at("granite.embedding_scale"), 12);
  EXPECT_EQ(keys.values.at("granite.residual_scale"), 0.22f);
  EXPECT_EQ(keys.values.at("granite.logit_scale"), 7);
}

TEST(GgufModelKeysTest, CapsAndWindows) {
  const Keys keys("gemma2", R"({"attention_bias": false, "final_logit_softcapping": 3,
                                "query_pre_attn_scalar": 6})");
  EXPECT_EQ(keys.values.at("gemma2.attn_logit_softcapping"), 5);
  EXPECT_EQ(keys.values.at("gemma2.final_logit_softcapping"), 3);
  EXPECT_EQ(keys.values.at("gemma2.attention.sliding_window"), 4);
  EXPECT_FALSE(keys.values.contains("gemma2.attention.sliding_window_pattern"));
  EXPECT_THAT(keys.notices, IsEmpty());
}

TEST(GgufModelKeysTest, WindowsAndRopeByLayer) {
  const Keys keys("gemma3_text", R"({"query_pre_attn_scalar": 6})");
  EXPECT_EQ(keys.values.at("gemma3.rope.freq_base"), 1000);
  EXPECT_EQ(keys.values.at("gemma3.rope.freq_base_swa"), 100);
  EXPECT_EQ(keys.values.at("gemma3.rope.scaling.type"), "linear");
  EXPECT_EQ(keys.values.at("gemma3.rope.scaling.factor"), 8);
  EXPECT_EQ(keys.values.at("gemma3.attention.sliding_window_pattern"), 2);
  EXPECT_THAT(keys.notices, ElementsAre(HasSubstr("rope.freq_base_swa is 100"),
                                        HasSubstr("sliding_window_pattern is 2")));
}

TEST(GgufModelKeysTest, Yarn) {
  const Keys keys("olmo3", "{}");
  EXPECT_EQ(keys.values.at("olmo2.rope.scaling.type"), "yarn");
  EXPECT_EQ(keys.values.at("olmo2.rope.scaling.factor"), 4);
  EXPECT_EQ(keys.values.at("olmo2.rope.scaling.original_context_length"), 16);
  EXPECT_EQ(keys.values.at("olmo2.rope.scaling.yarn_beta_fast"), 8);
  EXPECT_FLOAT_EQ(keys.values.at("olmo2.rope.scaling.attn_factor"), 1.2 / (0.1 * std::log(4) + 1));
  EXPECT_EQ(keys.values.at("olmo2.attention.sliding_window"), 4);
}

TEST(GgufModelKeysTest, LongRope) {
  const Keys keys("llama_longrope", "{}");
  EXPECT_EQ(keys.values.at("llama.rope.scaling.type"), "longrope");
  EXPECT_EQ(keys.values.at("llama.rope.scaling.original_context_length"), 16);
  EXPECT_EQ(keys.values.at("llama.rope.scaling.attn_factor"), 1.25f);
}

TEST(GgufModelKeysTest, DivisorsOfFrequencies) {
  // Of the three frequencies of a head of 6, by wavelengths 2 pi 10000^(i / 3): the first is
  // shorter than 32 / 4, the others are longer than 32.
  const auto tensors = GgufRopeTensors(ConfigOf("llama", "{}"));
  ASSERT_EQ(tensors.size(), 1);
  EXPECT_THAT(tensors[0].values, ElementsAre(1, 8, 8));
}

TEST(GgufModelKeysTest, PartOfAHead) {
  const Keys keys("phi3", "{}");
  EXPECT_EQ(keys.values.at("phi3.rope.dimension_count"), 4);
  EXPECT_EQ(keys.values.at("phi3.context_length"), 8);
  EXPECT_THAT(keys.notices, ElementsAre(HasSubstr("within 8 tokens the model is the same")));
}

TEST(GgufModelKeysTest, AWindowThatNothingExceedsIsNone) {
  const Keys keys("mistral", R"({"sliding_window": 64})");
  EXPECT_EQ(keys.values.at("llama.context_length"), 64);
  EXPECT_THAT(keys.notices, IsEmpty());
}

TEST(GgufModelKeysTest, WhatAnArchitectureLacksIsAnError) {
  const std::vector<std::vector<std::string>> cases = {
      {"qwen3", "{}", "Qwen3", "has no biases of queries, keys and values"},
      {"gpt_neox", R"({"hidden_act": "gelu"})", "GPT-NeoX", "always has biases of queries"},
      {"gpt2", R"({"activation_function": "relu"})", "GPT-2", "computes GELU by tanh, not ReLU"},
      {"gpt2", R"({"scale_attn_by_inverse_layer_idx": true})", "GPT-2", "by no layer's number"},
      {"llama", R"({"hidden_act": "gelu"})", "Llama", "computes SiLU, not GELU"},
      {"llama_yarn", "{}", "Llama", "has YaRN's range in whole features"},
      {"gemma2", R"({"attention_bias": false})", "Gemma 2", "always has a cap of logits"},
      {"gemma2", R"({"attention_bias": false, "final_logit_softcapping": 3})", "Gemma 2",
       "scales scores by 0.408"},
      {"gemma3_text", R"({"query_pre_attn_scalar": 6, "rope_scaling": {"rope_type": "llama3",
           "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
           "original_max_position_embeddings": 16}})",
       "Gemma 3", "has no scaling of RoPE by wavelength"},
      {"smollm3", R"({"attention_bias": false, "mlp_bias": false})", "SmolLM3",
       "has RoPE in layer 1"},
      {"olmo3_nested", "{}", "OLMo 3", "has no scaling of RoPE in layers with a window"},
      {"gemma3_text", R"({"query_pre_attn_scalar": 6, "sliding_window_pattern": null,
           "layer_types": ["full_attention", "sliding_attention", "full_attention",
                           "full_attention"]})",
       "Gemma 3", "has a window in all layers but every second"},
  };
  for (const auto& c : cases) {
    const Keys keys(c[0], c[1]);
    EXPECT_TRUE(absl::IsUnimplemented(keys.status)) << c[0] << c[1] << keys.status;
    EXPECT_THAT(std::string(keys.status.message()), AllOf(HasSubstr(c[2]), HasSubstr(c[3])));
  }
}

TEST(GgufModelKeysTest, AFamilyThatTheFormatLacksIsAnError) {
  ModelConfig config = ConfigOf("llama", "{}");
  ModelFamily other = *config.family;
  other.gguf = {};
  config.family = &other;
  GgufMetadata metadata;
  std::vector<std::string> notices;
  EXPECT_THAT(std::string(AddGgufModelKeys(config, &metadata, &notices).message()),
              HasSubstr("GGUF has no form for Llama models"));
}

TEST(GgufWeightsTest, NarrowMatricesAreHalf) {
  const ModelConfig config = ConfigOf("stablelm", "{}");  // 32 wide, but for the MLP's 24
  ParameterArena arena;
  const Transformer model(config, /*max_seq_len=*/1, &arena);
  for (const GgufTensor& tensor : GgufTensorsOf(config, arena, GgufDType::kQ8_0)) {
    const GgufDType expected = tensor.spec.shape.size() == 1    ? GgufDType::kF32
                               : tensor.spec.shape.back() == 24 ? GgufDType::kF16
                                                                : GgufDType::kQ8_0;
    EXPECT_EQ(tensor.spec.dtype, expected) << tensor.spec.name;
  }
}

}  // namespace
}  // namespace strake
