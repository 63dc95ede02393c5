#include "models/families/families.h"

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
#include "models/families/gpt2.h"
#include "models/families/hf_keys.h"
#include "models/families/llama.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using Json = nlohmann::json;

constexpr const ModelFamily* kFamilies[] = {&kGpt2Family, &kLlamaFamily};

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

// The family of an object's "model_type".
absl::StatusOr<const ModelFamily*> FamilyOf(HfKeys& keys) {
  std::vector<std::string> types;
  for (const ModelFamily* family : kFamilies) types.push_back(family->model_type);
  if (!keys.Has("model_type")) {
    return absl::InvalidArgumentError(absl::StrCat(keys.source(),
                                                   ": \"model_type\" is missing; it must be \"",
                                                   absl::StrJoin(types, "\" or \""), "\""));
  }
  const std::string type = keys.Word("model_type", types);
  STRAKE_RETURN_IF_ERROR(keys.status());
  for (const ModelFamily* family : kFamilies) {
    if (type == family->model_type) return family;
  }
  LOG(FATAL) << "[families] " << type;
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
  CHECK(config.family != nullptr) << "[families] a model of no family has no config.json";
  const ModelFamily& family = *config.family;
  nlohmann::ordered_json json;
  json["architectures"] = {family.architecture};
  json["model_type"] = family.model_type;
  json["torch_dtype"] = dtype == DType::kBf16 ? "bfloat16" : "float32";
  json["vocab_size"] = config.vocab_size;
  family.write_keys(config, &json);
  json["initializer_range"] = config.initializer_range;
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  // transformers' defaults are tokens of its own vocabularies: null where there are none.
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  for (const auto& [key, text] : config.token_ids) {
    json[key] = *ParseOrderedJson(text, key);
  }
  const std::string text = JsonText(json, 2) + "\n";

  const Json written = *ParseJson(text, "the config.json written");
  HfKeys keys(written, "the config.json written", /*notices=*/nullptr);
  const auto again = ReadConfig(family, keys);
  CHECK(again.ok()) << "[families] " << again.status();
  CHECK(*again == config) << "[families] a config.json of " << family.model_type
                          << " cannot express this model: " << text;
  return text;
}

}  // namespace strake
