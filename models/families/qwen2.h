// Qwen2 and Qwen2.5: Llama with biases of queries, keys and values, and windows on later layers
// where they are used (Yang et al., "Qwen2 Technical Report", 2024, section 2.2).
#ifndef STRAKE_MODELS_FAMILIES_QWEN2_H_
#define STRAKE_MODELS_FAMILIES_QWEN2_H_

#include "models/families/family.h"
#include "models/families/llama_keys.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

extern const ModelFamily kQwen2Family;

// The keys that all Qwen families have.
void ReadQwenKeys(HfKeys& keys, const LlamaKeys& names, ModelConfig* config);
void WriteQwenKeys(const ModelConfig& config, const LlamaKeys& names, nlohmann::ordered_json* json);

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_QWEN2_H_
