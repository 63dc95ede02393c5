// The linear layers of a model that may have adapters, by the names of their modules in Hugging
// Face's models: all linear layers of the blocks. The head has none.
#ifndef STRAKE_MODELS_LORA_MODULES_H_
#define STRAKE_MODELS_LORA_MODULES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "models/lora_config.h"
#include "models/model_config.h"

namespace strake {

// Returns whether the config gives a linear layer an adapter. `module` is its full name, as
// "model.layers.3.self_attn.q_proj"; a target is the end of such a name, in whole parts.
bool HasAdapter(const LoraConfig& lora, absl::string_view module);

// Returns the last parts of the names, each once, in the order of a layer: "q_proj", "k_proj", ...
// A fused tensor of the family's files is one module: "c_attn".
std::vector<std::string> AdapterModules(const ModelConfig& config);

// The number of the adapters' parameters; 0 without adapters.
int64_t NumAdapterParameters(const ModelConfig& config);

// InvalidArgument, with value and name, where the model's LoraConfig has a negative rank, an alpha
// that is not positive and finite, or a target that names no module: it then lists those there are.
// OK without adapters.
absl::Status CheckLora(const ModelConfig& config);

}  // namespace strake

#endif  // STRAKE_MODELS_LORA_MODULES_H_
