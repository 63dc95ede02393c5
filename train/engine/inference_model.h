// InferenceModel: a rank's parts of a model, to generate and to evaluate, without gradients.
#ifndef STRAKE_TRAIN_ENGINE_INFERENCE_MODEL_H_
#define STRAKE_TRAIN_ENGINE_INFERENCE_MODEL_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "core/memory/parameter_arena.h"
#include "models/model_parts.h"
#include "models/transformer.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/mesh.h"
#include "parallel/pipeline/stage_links.h"
#include "train/engine/engine_options.h"

namespace strake {

// An InferenceModel takes of the options the model, its layout and where it is: model, seq_len,
// which is the longest sequence's, dtype, device, op_set, sequence_parallel, pipeline, logits_chunk
// and activation_recompute. CHECKs that the model has no adapters.
class InferenceModel {
 public:
  // Allocates this rank's parameters; the caller sets them. `mesh`, whose stream on a GPU is bound,
  // must outlive the model. Every rank of the mesh calls it. ResourceExhausted when there is no
  // memory; else the error of a collective. CHECKs CheckPipeline().
  static absl::StatusOr<std::unique_ptr<InferenceModel>> Create(const EngineOptions& options,
                                                                const Mesh& mesh);
  // The model of the first rank of a stage, without memory.
  static std::unique_ptr<InferenceModel> DryRun(const EngineOptions& options,
                                                const MeshVector& sizes, int stage);

  ParameterArena& parameters() { return parameters_; }
  ModelParts parts();

 private:
  InferenceModel(const EngineOptions& options, const MeshVector& sizes, int stage,
                 const TensorParallel& tp, const ContextParallel& cp);

  ParameterArena parameters_;
  std::vector<std::unique_ptr<Transformer>> models_;
  // Links between several stages, but not in dry runs.
  Communicator* pp_ = nullptr;
  std::optional<StageLinks> links_;
};

// Returns the bytes of `num_ranks` ranks that share a memory, from those of each stage's: of all
// ranks their sum. Which stages fewer ranks are is not known: each then counts as the dearest.
double BytesOfRanks(const MeshVector& sizes, int num_ranks,
                    absl::FunctionRef<double(int stage)> bytes_of_stage);

}  // namespace strake

#endif  // STRAKE_TRAIN_ENGINE_INFERENCE_MODEL_H_
