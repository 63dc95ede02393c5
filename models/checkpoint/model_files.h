// The files of a model: a directory's own, or those of a base model and a low-rank adapter that is
// added to it, as PEFT saves one.
//
//   W' = W + (alpha / rank) A B        W [in, out], A [in, rank], B [rank, out], summed in f32
#ifndef STRAKE_MODELS_CHECKPOINT_MODEL_FILES_H_
#define STRAKE_MODELS_CHECKPOINT_MODEL_FILES_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "core/memory/parameter_arena.h"
#include "core/tensor/tensor.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/family.h"
#include "models/lora_config.h"
#include "models/model_config.h"

namespace strake {

struct ModelFiles {
  std::string base = {};     // directory with config.json and weights
  std::string adapter = {};  // with adapter_config.json and adapter_model.safetensors; "": none
  LoraConfig lora = {};      // of the adapter

  // The directory that has a file of this name, of the adapter first; the base where neither has.
  std::string FolderWith(const std::string& name) const;
};

// Whether a directory holds an adapter_config.json.
absl::StatusOr<bool> HoldsAdapter(const std::string& directory);

// Finds the files of the model in a directory. The base of an adapter is `base`, or where that is
// empty the one that its adapter_config.json names, a path that begins in the process's folder
// unless it is absolute. What has no effect is added to `notices`, which may be null.
// Returns ReadAdapterConfig()'s errors; NotFound, naming both, where the base is no directory of a
// model or not named; InvalidArgument where the directory holds an adapter and a model, where the
// base is an adapter itself, and where `base` is given for a model that is no adapter.
absl::StatusOr<ModelFiles> FindModelFiles(const std::string& directory, const std::string& base,
                                          std::vector<std::string>* notices);

// Reads the config.json of the base: the whole model's, without `lora`. Returns ReadHfConfig()'s
// errors, and CheckLora()'s of the adapter, with the file.
absl::StatusOr<ModelConfig> ReadModelConfig(const ModelFiles& files,
                                            std::vector<std::string>* notices);

// The adapter's values, which are added to those of its base.
class AdapterWeights {
 public:
  // Finds the adapter's modules among the arena's parameters, which are those of the whole model or
  // of a rank's part of it. Returns an error, naming file, tensor and both shapes, for an adapter
  // of another model.
  static absl::StatusOr<AdapterWeights> Open(const ModelFiles& files, const ModelConfig& config,
                                             const ParameterArena& arena);
  AdapterWeights(AdapterWeights&&) noexcept;
  AdapterWeights& operator=(AdapterWeights&&) noexcept;
  ~AdapterWeights();

  // Whether any element of a parameter changes.
  bool Changes(int parameter) const;
  // Adds (alpha / rank) A B to the f32 values of a parameter, in host memory.
  absl::Status AddTo(int parameter, const Tensor& values) const;

 private:
  struct Found;
  explicit AdapterWeights(std::unique_ptr<const Found> found);
  std::unique_ptr<const Found> found_;
};

// A model's weights parameter by parameter, with the adapter, if there is one.
class ModelReader {
 public:
  // `config` is ReadModelConfig()'s. The arena, which may be a dry run's, must outlive this.
  static absl::StatusOr<ModelReader> Open(const ModelFiles& files, const ModelConfig& config,
                                          const ParameterArena& arena);

  // Reads a parameter into f32 values in host memory.
  absl::Status Read(int parameter, const Tensor& values) const;
  bool HasAdapter(int parameter) const {
    return adapter_.has_value() && adapter_->Changes(parameter);
  }

 private:
  explicit ModelReader(WeightsReader base) : base_(std::move(base)) {}

  WeightsReader base_;
  std::optional<AdapterWeights> adapter_;
};

// Fills the arena's values as LoadWeights() does. Those with an adapter are summed in f32 before
// they are rounded to the arena's dtype.
absl::Status LoadModel(const ModelFiles& files, const ModelConfig& config, ParameterArena& arena,
                       const OnWork& on_work = nullptr);

// Fills parts of an array over the index space of adapters from the adapter_model.safetensors of a
// directory, as LoadArrays() does; the tensors may be F64, F32, F16 or BF16.
absl::Status LoadAdapter(const std::string& directory, const ParameterArena& adapters,
                         const std::vector<ArenaArray>& parts, const OnWork& on_work = nullptr);

// The checksum of a model's weights as f32, 8 hexadecimal digits: the same whatever the files that
// they are in and their dtype, as long as no number changes.
absl::StatusOr<std::string> WeightsChecksum(const std::string& directory, const ModelFamily& family,
                                            const ParameterArena& arena,
                                            const OnWork& on_work = nullptr);

}  // namespace strake

#endif  // STRAKE_MODELS_CHECKPOINT_MODEL_FILES_H_
