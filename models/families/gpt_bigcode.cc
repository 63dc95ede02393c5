#include "models/families/gpt_bigcode.h"

#include <string>
#include <utility>
#include <vector>

#include "models/families/gpt2.h"
#include "models/families/hf_keys.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

ModelConfig NewConfig() { return NewGpt2Config(&kGptBigCodeFamily); }

void ReadKeys(HfKeys& keys, ModelConfig* config) {
  ReadGpt2Keys(keys, "gelu_pytorch_tanh", config);
  config->num_kv_heads = keys.Bool("multi_query", true) ? 1 : config->num_heads;
}

void WriteKeys(const ModelConfig& config, nlohmann::ordered_json* json) {
  WriteGpt2Keys(config, json);
  (*json)["multi_query"] = config.num_kv_heads == 1;
}

std::vector<std::pair<std::string, ModelConfig>> Presets() { return {}; }

constexpr TensorNames Tensors() {
  TensorNames names = kGpt2Tensors;
  names.transposed = true;
  names.interleaved_heads = true;
  return names;
}

constexpr IrrelevantKey kIrrelevantKeys[] = {
    {"attention_softmax_in_fp32", "softmax is computed in f32 in any case"},
    {"scale_attention_softmax_in_fp32", "scores are scaled in f32 in any case"},
    {"num_key_value_heads", "transformers takes it from \"multi_query\""},
    {"classifier_dropout", "it belongs to models that classify"},
    {"hidden_dropout", "it belongs to models that classify"},
    {"attention_head_type", "an older name of what \"multi_query\" says, which nothing reads"}};

}  // namespace

constexpr ModelFamily kGptBigCodeFamily = {.model_type = "gpt_bigcode",
                                           .display_name = "GPT-BigCode",
                                           .architecture = "GPTBigCodeForCausalLM",
                                           .base_architecture = "GPTBigCodeModel",
                                           .tensors = Tensors(),
                                           .irrelevant_keys = kIrrelevantKeys,
                                           .new_config = &NewConfig,
                                           .read_keys = &ReadKeys,
                                           .write_keys = &WriteKeys,
                                           .is_buffer = &IsGpt2Buffer,
                                           .presets = &Presets,
                                           .gguf = {.architecture = "starcoder",
                                                    .activation = ActivationKind::kGeluTanh,
                                                    .qkv_bias = GgufUse::kAlways,
                                                    .attention_output_bias = GgufUse::kAlways,
                                                    .mlp_bias = GgufUse::kAlways}};

}  // namespace strake
