#include "models/checkpoint/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxRank = 1 << 20;
constexpr double kMaxAlpha = 1e9;
constexpr char kAllLinear[] = "all-linear";

// What can be done about an adapter that cannot be read.
constexpr char kMerge[] =
    "; merge_and_unload() of PEFT makes a whole model of it, which can be read";

// Keys that this reader interprets.
constexpr const char* kRead[] = {
    "peft_type",    "task_type",        "r",    "lora_alpha",
    "use_rslora",   "target_modules",   "bias", "base_model_name_or_path",
    "lora_dropout", "init_lora_weights"};

// Keys without an effect on a trained adapter: where it came from, how it began, how PEFT's own
// tensors are laid out in memory.
constexpr const char* kIrrelevant[] = {"auto_mapping",      "corda_config",   "eva_config",
                                       "fan_in_fan_out",    "inference_mode", "loftq_config",
                                       "lora_ga_config",    "megatron_core",  "peft_version",
                                       "qalora_group_size", "revision",       "runtime_config"};

// Ways to begin that leave the base as it is. Others move a part of it into the adapter.
constexpr const char* kInits[] = {"gaussian", "eva", "orthogonal"};

template <size_t N>
bool IsOneOf(const char* const (&list)[N], absl::string_view key) {
  return std::any_of(std::begin(list), std::end(list),
                     [&](const char* each) { return key == each; });
}

// What PEFT writes for a feature that is not used.
bool IsUnused(const Json& value) {
  return value.is_null() || value == Json(false) ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty()) ||
         value == Json("");
}

class Reader {
 public:
  Reader(const Json& json, absl::string_view source) : json_(json), source_(source) {}

  absl::StatusOr<AdapterConfig> Read(std::vector<std::string>* notices) const {
    if (!json_.is_object()) return Bad("is no JSON object");
    STRAKE_RETURN_IF_ERROR(CheckKind());
    STRAKE_RETURN_IF_ERROR(CheckInit());
    STRAKE_RETURN_IF_ERROR(CheckOthers());
    AdapterConfig config;
    STRAKE_RETURN_IF_ERROR(ReadNumbers(&config.lora));
    STRAKE_RETURN_IF_ERROR(ReadTargets(&config.lora.targets));
    const Json& base = At("base_model_name_or_path");
    if (!base.is_null() && !base.is_string()) return BadKey("base_model_name_or_path", "no path");
    if (base.is_string()) config.base_model = base.get<std::string>();
    if (const Json& dropout = At("lora_dropout");
        notices != nullptr && dropout.is_number() && dropout != Json(0.0)) {
      notices->push_back(absl::StrCat(source_, ": dropout (lora_dropout ", QuoteJson(dropout),
                                      ") is not applied"));
    }
    return config;
  }

 private:
  const Json& At(const char* key) const {
    static const Json* const null = new Json();
    const auto found = json_.find(key);
    return found == json_.end() ? *null : *found;
  }

  absl::Status Bad(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(source_, ": ", what));
  }
  absl::Status BadKey(const char* key, absl::string_view what) const {
    return Bad(absl::StrCat("\"", key, "\" is ", QuoteJson(At(key)), ", ", what));
  }

  absl::Status CheckKind() const {
    if (At("peft_type") != Json("LORA")) {
      return BadKey("peft_type", absl::StrCat("but only \"LORA\" is implemented", kMerge));
    }
    const Json& task = At("task_type");
    if (!task.is_null() && task != Json("CAUSAL_LM")) {
      return BadKey("task_type", "but only \"CAUSAL_LM\" is implemented");
    }
    const Json& bias = At("bias");
    if (bias.is_null() || bias == Json("none")) return absl::OkStatus();
    return BadKey("bias", absl::StrCat("but trained biases are not implemented", kMerge));
  }

  absl::Status CheckInit() const {
    const Json& init = At("init_lora_weights");
    const bool known = init.is_null() || init.is_boolean() ||
                       (init.is_string() && IsOneOf(kInits, init.get<std::string>()));
    if (known) return absl::OkStatus();
    return BadKey("init_lora_weights",
                  absl::StrCat("which moves a part of the base into the adapter, and is not "
                               "implemented",
                               kMerge));
  }

  absl::Status CheckOthers() const {
    for (const auto& [key, value] : json_.items()) {
      if (IsOneOf(kRead, key) || IsOneOf(kIrrelevant, key) || IsUnused(value)) continue;
      return BadKey(key.c_str(), absl::StrCat("which is not implemented", kMerge));
    }
    return absl::OkStatus();
  }

  absl::Status ReadNumbers(LoraConfig* lora) const {
    const Json &rank = At("r"), &alpha = At("lora_alpha"), &scaled = At("use_rslora");
    if (!rank.is_number_integer() || rank < 1 || rank > kMaxRank) {
      return BadKey("r", absl::StrCat("but a rank is an integer from 1 to ", kMaxRank));
    }
    if (!alpha.is_number() || alpha.get<double>() <= 0 || alpha.get<double>() > kMaxAlpha) {
      return BadKey("lora_alpha", "but it is a number above 0 and at most 1e9");
    }
    if (!scaled.is_null() && !scaled.is_boolean()) {
      return BadKey("use_rslora", "neither true nor false");
    }
    lora->rank = rank.get<int64_t>();
    lora->alpha = alpha.get<double>();
    if (scaled == Json(true)) lora->alpha *= std::sqrt(static_cast<double>(lora->rank));
    return absl::OkStatus();
  }

  absl::Status ReadTargets(std::vector<std::string>* targets) const {
    constexpr char kKey[] = "target_modules";
    const Json& list = At(kKey);
    if (list == Json(kAllLinear)) return absl::OkStatus();
    if (list.is_string()) {
      return BadKey(kKey,
                    "a regular expression, which is not implemented; give the modules as a list "
                    "of names, as [\"q_proj\", \"v_proj\"]");
    }
    if (!list.is_array() || list.empty()) return BadKey(kKey, "but it is a list of names");
    for (const Json& name : list) {
      if (!name.is_string() || name == Json("")) return BadKey(kKey, "but it is a list of names");
      if (std::find(targets->begin(), targets->end(), name.get<std::string>()) == targets->end()) {
        targets->push_back(name.get<std::string>());
      }
    }
    return absl::OkStatus();
  }

  const Json& json_;
  const absl::string_view source_;
};

// As PEFT does, a whole number without a point.
Json NumberOf(double value) {
  if (value == std::floor(value) && std::abs(value) < 0x1p53) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

absl::StatusOr<AdapterConfig> ParseAdapterConfig(absl::string_view json, absl::string_view source,
                                                 std::vector<std::string>* notices) {
  STRAKE_ASSIGN_OR_RETURN(const Json parsed, ParseJson(json, source));
  return Reader(parsed, source).Read(notices);
}

absl::StatusOr<AdapterConfig> ReadAdapterConfig(const std::string& directory,
                                                std::vector<std::string>* notices) {
  const std::string path = absl::StrCat(directory, "/", kAdapterConfigFile);
  STRAKE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseAdapterConfig(text, path, notices);
}

std::string ToAdapterConfig(const AdapterConfig& config, bool fan_in_fan_out) {
  Json json;
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = nullptr;
  if (!config.base_model.empty()) json["base_model_name_or_path"] = config.base_model;
  json["r"] = config.lora.rank;
  json["lora_alpha"] = NumberOf(config.lora.alpha);
  json["target_modules"] = kAllLinear;
  if (!config.lora.targets.empty()) json["target_modules"] = config.lora.targets;
  json["fan_in_fan_out"] = fan_in_fan_out;
  json["bias"] = "none";
  json["lora_dropout"] = 0.0;
  json["init_lora_weights"] = true;
  json["inference_mode"] = true;
  for (const char* unused : {"use_rslora", "use_dora", "lora_bias"}) json[unused] = false;
  for (const char* unused : {"rank_pattern", "alpha_pattern"}) json[unused] = Json::object();
  for (const char* unused : {"auto_mapping", "exclude_modules", "layers_pattern",
                             "layers_to_transform", "modules_to_save", "revision"}) {
    json[unused] = nullptr;
  }
  return JsonText(json, 2) + "\n";
}

}  // namespace strake
