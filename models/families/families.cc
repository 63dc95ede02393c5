#include "models/families/families.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "models/families/gemma2.h"
#include "models/families/gemma3_text.h"
#include "models/families/gpt2.h"
#include "models/families/gpt_bigcode.h"
#include "models/families/gpt_neox.h"
#include "models/families/granite.h"
#include "models/families/hf_keys.h"
#include "models/families/irrelevant_keys.h"
#include "models/families/llama.h"
#include "models/families/mistral.h"
#include "models/families/olmo2.h"
#include "models/families/olmo3.h"
#include "models/families/phi3.h"
#include "models/families/qwen2.h"
#include "models/families/qwen3.h"
#include "models/families/smollm3.h"
#include "models/families/stablelm.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using Json = nlohmann::json;

constexpr const ModelFamily* kFamilies[] = {
    &kGemma2Family,  &kGemma3TextFamily, &kGpt2Family,    &kGptBigCodeFamily, &kGptNeoxFamily,
    &kGraniteFamily, &kLlamaFamily,      &kMistralFamily, &kOlmo2Family,      &kOlmo3Family,
    &kPhi3Family,    &kQwen2Family,      &kQwen3Family,   &kSmolLm3Family,    &kStableLmFamily};

const std::map<std::string, ModelConfig>& Presets() {
  static const auto* presets = [] {
    auto* all = new std::map<std::string, ModelConfig>();
    for (const ModelFamily* family : kFamilies) {
      for (auto& [name, config] : family->presets()) (*all)[name] = std::move(config);
    }
    return all;
  }();
  return *presets;
}

std::vector<std::string> ModelTypes() {
  std::vector<std::string> types;
  for (const ModelFamily* family : kFamilies) types.push_back(family->model_type);
  return types;
}

// Keys that tell why a model of another type is none of these.
constexpr std::pair<const char*, const char*> kUnsupportedKinds[] = {
    {"kv_lora_rank", "multi-head latent attention"},
    {"n_routed_experts", "mixture of experts"},
    {"num_local_experts", "mixture of experts"},
    {"num_experts", "mixture of experts"},
    {"state_size", "state-space layers"},
    {"ssm_cfg", "state-space layers"},
    {"ssm_state_size", "state-space layers"},
    {"mamba_d_state", "state-space layers"},
    {"linear_num_key_heads", "linear attention"},
    {"is_encoder_decoder", "an encoder beside the decoder"},
    {"type_vocab_size", "an encoder"},
};

// The text of a model of several parts, or "".
std::string TextPart(HfKeys& keys) {
  for (const char* part : {"text_config", "llm_config", "language_config"}) {
    if (!keys.Has(part) || !keys.At(part).is_object()) continue;
    const Json& config = keys.At(part);
    const Json type = config.value("model_type", Json("none"));
    const std::vector<std::string> types = ModelTypes();
    const bool known = std::find(types.begin(), types.end(), type) != types.end();
    return absl::StrCat("a model of several parts: its text part is \"", part, "\", of type ",
                        QuoteJson(type),
                        known ? ": give that part, and its tensors, as a model of its own"
                              : ", which is not supported either");
  }
  return "";
}

std::string WhyUnsupported(HfKeys& keys) {
  const std::string part = TextPart(keys);
  if (!part.empty()) return part;
  for (const auto& [key, what] : kUnsupportedKinds) {
    if (!keys.Has(key) || keys.At(key) == false) continue;
    return absl::StrCat("with \"", key, "\" ", QuoteJson(keys.At(key)), ": ", what,
                        " is not supported");
  }
  return "not supported";
}

// The family of an object's "model_type".
absl::StatusOr<const ModelFamily*> FamilyOf(HfKeys& keys) {
  const std::string types = absl::StrCat("\"", absl::StrJoin(ModelTypes(), "\", \""), "\"");
  if (!keys.Has("model_type")) {
    return absl::InvalidArgumentError(
        absl::StrCat(keys.source(), ": \"model_type\" is missing; it must be one of ", types));
  }
  const Json& type = keys.At("model_type");
  for (const ModelFamily* family : kFamilies) {
    if (type == family->model_type) return family;
  }
  return absl::InvalidArgumentError(absl::StrCat(keys.source(), ": \"model_type\" is ",
                                                 QuoteJson(type), ", ", WhyUnsupported(keys),
                                                 "; supported: ", types));
}

// Checks the keys with which transformers makes another model of any family.
void CheckGeneralKeys(const ModelFamily& family, HfKeys& keys) {
  if (keys.Has("architectures")) {
    const Json& given = keys.At("architectures");
    if (given != Json::array() && given != Json::array({family.architecture}) &&
        given != Json::array({family.base_architecture})) {
      keys.Fail(absl::StrCat("\"architectures\" is ", QuoteJson(given), "; supported: [\"",
                             family.architecture, "\"], [\"", family.base_architecture, "\"]"));
    }
  }
  keys.MustBeAbsent("quantization_config",
                    "quantized weights are not supported: save the model without quantization");
  keys.MustBeAbsent("configuration_files",
                    "only the file itself is read: remove the key, or give "
                    "the file that transformers would take this name");
  keys.MustBeAbsent("transformers_weights",
                    "only model.safetensors and its shards are read: remove the key, or give the "
                    "file that it names this name");
  if (keys.Has("per_layer_config") && !keys.At("per_layer_config").empty()) {
    keys.MustBeAbsent("per_layer_config", "all layers must have the same configuration");
  }
  keys.MustBe("is_causal", true);
  if (keys.Has("auto_map")) {
    keys.Note("\"auto_map\" is ignored: the model is the family's, not that of its own code");
  }
}

bool IsIrrelevant(const ModelFamily& family, const std::string& key) {
  const auto is_key = [&](const IrrelevantKey& irrelevant) { return key == irrelevant.key; };
  const auto general = GeneralIrrelevantKeys();
  return std::any_of(general.begin(), general.end(), is_key) ||
         std::any_of(family.irrelevant_keys.begin(), family.irrelevant_keys.end(), is_key);
}

void NoteUnusedKeys(const ModelFamily& family, HfKeys& keys) {
  std::vector<std::string> unused;
  for (const std::string& key : keys.UnusedKeys()) {
    if (!IsIrrelevant(family, key)) unused.push_back(key);
  }
  if (unused.empty()) return;
  keys.Note(absl::StrCat("nothing reads the keys \"", absl::StrJoin(unused, "\", \""), "\""));
}

absl::StatusOr<ModelConfig> ReadConfig(const ModelFamily& family, HfKeys& keys) {
  CheckGeneralKeys(family, keys);
  ModelConfig config = family.new_config();
  family.read_keys(keys, &config);
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (keys.Has(key)) config.token_ids.emplace_back(key, JsonText(keys.At(key)));
  }
  STRAKE_RETURN_IF_ERROR(keys.status());
  if (const absl::Status status = ValidateModelConfig(config); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(keys.source(), ": ", status.message()));
  }
  NoteUnusedKeys(family, keys);
  return config;
}

}  // namespace

absl::Span<const ModelFamily* const> ModelFamilies() { return kFamilies; }

std::vector<std::string> ModelPresetNames() {
  std::vector<std::string> names;
  for (const auto& [name, config] : Presets()) names.push_back(name);
  return names;
}

absl::StatusOr<ModelConfig> ModelPreset(absl::string_view name) {
  const auto it = Presets().find(std::string(name));
  if (it != Presets().end()) return it->second;
  return absl::NotFoundError(absl::StrCat("no model preset \"", name, "\"; there are ",
                                          absl::StrJoin(ModelPresetNames(), ", ")));
}

absl::StatusOr<ModelConfig> ParseHfConfig(absl::string_view json, absl::string_view source,
                                          std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const Json object, ParseJson(json, source));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": not a JSON object"));
  }
  HfKeys keys(object, std::string(source), notices);
  return ReadHfConfig(keys);
}

absl::StatusOr<ModelConfig> ReadHfConfig(HfKeys& keys) {
  STRAKE_ASSIGN_OR_RETURN(const ModelFamily* const family, FamilyOf(keys));
  return ReadConfig(*family, keys);
}

absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& path,
                                         std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseHfConfig(text, path, notices);
}

absl::StatusOr<ModelConfig> FindModelConfig(const std::string& model,
                                            std::vector<std::string>* notices) {
  const bool is_path = absl::StrContains(model, "/") || absl::EndsWith(model, ".json");
  return is_path ? ReadHfConfig(model, notices) : ModelPreset(model);
}

std::string ToHfConfig(const ModelConfig& config, DType dtype) {
  return ToHfConfig(config, dtype == DType::kBf16 ? "bfloat16" : "float32");
}

std::string ToHfConfig(const ModelConfig& config, const char* torch_dtype) {
  CHECK(config.family != nullptr) << "[families] a model of no family has no config.json";
  const ModelFamily& family = *config.family;
  nlohmann::ordered_json json;
  json["architectures"] = {family.architecture};
  json["model_type"] = family.model_type;
  json["torch_dtype"] = torch_dtype;
  json["vocab_size"] = config.vocab_size;
  family.write_keys(config, &json);
  json["initializer_range"] = config.initializer_range;
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  // transformers' defaults are tokens of its own vocabularies: null where there are none.
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) json[key] = nullptr;
  for (const auto& [key, text] : config.token_ids) {
    json[key] = *ParseOrderedJson(text, key);
  }
  const std::string text = JsonText(json, 2) + "\n";

  const Json written = *ParseJson(text, "the config.json written");
  HfKeys keys(written, "the config.json written", /*notices=*/nullptr);
  auto again = ReadConfig(family, keys);
  CHECK(again.ok()) << "[families] " << again.status();
  again->lora = config.lora;
  CHECK(*again == config) << "[families] a config.json of " << family.model_type
                          << " cannot express this model: " << text;
  return text;
}

}  // namespace strake
