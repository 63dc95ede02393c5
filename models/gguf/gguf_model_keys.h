// The keys of GGUF that describe a model.
#ifndef STRAKE_MODELS_GGUF_GGUF_MODEL_KEYS_H_
#define STRAKE_MODELS_GGUF_GGUF_MODEL_KEYS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "models/gguf/gguf_metadata.h"
#include "models/model_config.h"

namespace strake {

// Adds "general.architecture" and the keys of that architecture. What the file can only nearly
// express, or what old readers do not know, is added to `notices`.
//
// Unimplemented, naming feature and architecture, for a model that the architecture of its family
// does not compute (models/families/gguf_family.h), and for a family without one. A window that the
// architecture lacks is none up to its size, to which the context's length is limited then.
absl::Status AddGgufModelKeys(const ModelConfig& config, GgufMetadata* metadata,
                              std::vector<std::string>* notices);

// The divisors of RoPE's frequencies that stand in tensors of the file: of wavelength scaling one
// list, of one with a factor for each frequency two.
struct GgufRopeTensor {
  std::string name;
  std::vector<float> values = {};
};
std::vector<GgufRopeTensor> GgufRopeTensors(const ModelConfig& config);

}  // namespace strake

#endif  // STRAKE_MODELS_GGUF_GGUF_MODEL_KEYS_H_
