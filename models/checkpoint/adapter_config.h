// adapter_config.json: how PEFT describes the low-rank adapter that lies beside it.
#ifndef STRAKE_MODELS_CHECKPOINT_ADAPTER_CONFIG_H_
#define STRAKE_MODELS_CHECKPOINT_ADAPTER_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/lora_config.h"

namespace strake {

inline constexpr char kAdapterConfigFile[] = "adapter_config.json";
inline constexpr char kAdapterWeightsFile[] = "adapter_model.safetensors";

struct AdapterConfig {
  LoraConfig lora = {};
  // The directory of the model that it was trained on, or a name of Hugging Face's hub; "": not
  // known.
  std::string base_model = {};

  bool operator==(const AdapterConfig&) const = default;
};

// Parses the text of an adapter_config.json; `source` is its name in errors. rsLoRA, whose products
// are times alpha / sqrt(rank), becomes an alpha of alpha * sqrt(rank). What has no effect here
// (dropout) is added to `notices`, which may be null. InvalidArgument, naming key and value, for
// keys that are missing or broken, and for what changes the model and is not implemented: other
// kinds of adapters, ranks by module, regular expressions of modules, biases, DoRA and the like.
absl::StatusOr<AdapterConfig> ParseAdapterConfig(absl::string_view json, absl::string_view source,
                                                 std::vector<std::string>* notices);

// Reads and parses the file in a directory.
absl::StatusOr<AdapterConfig> ReadAdapterConfig(const std::string& directory,
                                                std::vector<std::string>* notices);

// Writes what PEFT reads. `fan_in_fan_out`: the model's files have its linear layers as [in, out].
std::string ToAdapterConfig(const AdapterConfig& config, bool fan_in_fan_out);

}  // namespace strake

#endif  // STRAKE_MODELS_CHECKPOINT_ADAPTER_CONFIG_H_
