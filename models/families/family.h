// ModelFamily: everything that distinguishes one family of models, as data.
//
// A family lists the features of its models, the keys of `config.json` that hold them, the names
// and layouts of tensors in its files, and the presets. The blocks of a model read features and
// names, and never depend on the family.
#ifndef STRAKE_MODELS_FAMILIES_FAMILY_H_
#define STRAKE_MODELS_FAMILIES_FAMILY_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/tensor.h"
#include "models/families/gguf_family.h"
#include "models/model_config.h"
#include "nlohmann/json_fwd.hpp"

namespace strake {

class HfKeys;

// Names of tensors in the family's files, without ".weight" or ".bias"; "$0" stands for the layer.
// Neighbours with one name (query, key, value) are one tensor there, side by side. A name is null
// where no model of the family has the tensor.
struct TensorNames {
  const char* token_embedding = nullptr;
  const char* position_embedding = nullptr;
  const char* attention_norm = nullptr;  // before attention
  const char* query = nullptr;
  const char* key = nullptr;
  const char* value = nullptr;
  const char* query_norm = nullptr;
  const char* key_norm = nullptr;
  const char* attention_output = nullptr;
  const char* attention_post_norm = nullptr;
  const char* mlp_norm = nullptr;  // before the MLP
  const char* gate = nullptr;
  const char* up = nullptr;
  const char* down = nullptr;
  const char* mlp_post_norm = nullptr;
  const char* final_norm = nullptr;
  const char* head = nullptr;
  // Files hold the matrices of linear layers as [out, in], the transpose of ours.
  bool transposed = false;
  // The one tensor of queries, keys and values has [q_h | k_h | v_h] head by head, instead of all
  // queries first. Models with fewer key/value heads than query heads are not stored this way.
  bool interleaved_heads = false;
  // Optional prefix of all names in files.
  const char* optional_prefix = "";
};

// A key that transformers reads and that does not change the model, and why.
struct IrrelevantKey {
  const char* key;
  const char* reason;
};

struct ModelFamily {
  const char* model_type;         // in config.json
  const char* display_name;       // on the screen
  const char* architecture;       // transformers' class, with the head
  const char* base_architecture;  // its class without the head, which files may also name
  TensorNames tensors;
  // Beside those of every family.
  absl::Span<const IrrelevantKey> irrelevant_keys = {};

  // A model with the family's features, and no sizes.
  ModelConfig (*new_config)();

  // Reads the family's keys into a new_config(). Sizes are required; other keys have transformers'
  // defaults. A value that Strake does not implement is an error of `keys`.
  void (*read_keys)(HfKeys& keys, ModelConfig* config);
  // Writes the keys that not all families share, so that read_keys() restores the config.
  void (*write_keys)(const ModelConfig& config, nlohmann::ordered_json* json);

  // Returns true if a file may hold this tensor beside the weights. Older versions of transformers
  // saved masks and tables.
  bool (*is_buffer)(absl::string_view name, const Shape& shape);

  std::vector<std::pair<std::string, ModelConfig>> (*presets)();

  GgufFamily gguf = {};
};

}  // namespace strake

#endif  // STRAKE_MODELS_FAMILIES_FAMILY_H_
