// The families of models that Strake knows, and their models by name and by `config.json`.
#ifndef STRAKE_MODELS_FAMILIES_FAMILIES_H_
#define STRAKE_MODELS_FAMILIES_FAMILIES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/dtype.h"
#include "models/families/family.h"
#include "models/model_config.h"

namespace strake {

class HfKeys;

absl::Span<const ModelFamily* const> ModelFamilies();

// The preset of that name; NotFound, listing the presets, for an unknown name.
absl::StatusOr<ModelConfig> ModelPreset(absl::string_view name);
// In alphabetical order.
std::vector<std::string> ModelPresetNames();

// Parses the text of a `config.json`; `source` is its name in errors. What has no effect (dropout,
// keys that nothing reads) is added to `notices`, which may be null. InvalidArgument, naming key
// and value, for keys that are missing, broken or not implemented.
absl::StatusOr<ModelConfig> ParseHfConfig(absl::string_view json, absl::string_view source,
                                          std::vector<std::string>* notices);

// The same from keys, which then know what was read of them.
absl::StatusOr<ModelConfig> ReadHfConfig(HfKeys& keys);

// Reads and parses a file.
absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& path,
                                         std::vector<std::string>* notices);

// Resolves a program's --model: a path where it holds a '/' or ends in ".json", else a preset.
absl::StatusOr<ModelConfig> FindModelConfig(const std::string& model,
                                            std::vector<std::string>* notices);

// Writes the `config.json` that transformers reads beside weights of that dtype: BF16 for bf16,
// else F32. CHECKs that the family's files can express the model: reading it gives the same config,
// without its adapters.
std::string ToHfConfig(const ModelConfig& config, DType dtype = DType::kF32);
// The same beside weights of PyTorch's dtype "float32", "float16" or "bfloat16".
std::string ToHfConfig(const ModelConfig& config, const char* torch_dtype);

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_FAMILIES_H_
