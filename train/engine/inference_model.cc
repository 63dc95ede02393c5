#include "train/engine/inference_model.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "parallel/comm/communicator.h"
#include "parallel/tensor/tensor_parallel.h"
#include "train/engine/stage_models.h"

namespace strake {
namespace {

// The length of the sequence by whose FLOPs layers are spread.
constexpr int64_t kCostTokens = 1024;

// The cut is the same for every length, however long.
EngineOptions WithCut(const EngineOptions& options, int stages) {
  EngineOptions few = options;
  few.seq_len = std::min(options.seq_len, kCostTokens);
  EngineOptions cut = options;
  cut.pipeline = WithLayersOfParts(std::move(few), stages).pipeline;
  return cut;
}

}  // namespace

InferenceModel::InferenceModel(const EngineOptions& options, const MeshVector& sizes, int stage,
                               const TensorParallel& tp, const ContextParallel& cp) {
  CHECK(!options.model.lora.enabled()) << "[inference_model] adapters are added to the weights";
  models_ = MakeStageModels(WithCut(options, sizes.pp), sizes.pp, stage, tp, &parameters_,
                            /*adapters=*/nullptr, cp);
}

absl::StatusOr<std::unique_ptr<InferenceModel>> InferenceModel::Create(const EngineOptions& options,
                                                                       const Mesh& mesh) {
  std::unique_ptr<InferenceModel> model(new InferenceModel(
      options, mesh.sizes(), mesh.coordinates().pp,
      TensorParallel(mesh.communicator(MeshAxis::kTp), options.sequence_parallel),
      ContextParallel(mesh.communicator(MeshAxis::kCp))));
  STRAKE_RETURN_IF_ERROR(
      model->parameters_.Allocate(options.dtype, /*with_gradients=*/false, options.device));
  for (const auto& part : model->models_) STRAKE_RETURN_IF_ERROR(part->PlaceTables());
  if (mesh.sizes().pp == 1) return model;
  model->pp_ = &mesh.communicator(MeshAxis::kPp);
  STRAKE_ASSIGN_OR_RETURN(model->links_,
                          StageLinks::Create(*model->pp_, static_cast<int>(model->models_.size())));
  return model;
}

std::unique_ptr<InferenceModel> InferenceModel::DryRun(const EngineOptions& options,
                                                       const MeshVector& sizes, int stage) {
  std::unique_ptr<InferenceModel> model(
      new InferenceModel(options, sizes, stage,
                         TensorParallel::Planned(/*rank=*/0, sizes.tp, options.sequence_parallel),
                         ContextParallel::Planned(/*rank=*/0, sizes.cp)));
  model->parameters_.AllocateDryRun(options.dtype, options.device, /*with_gradients=*/false);
  return model;
}

ModelParts InferenceModel::parts() {
  return ModelParts(models_, pp_, links_.has_value() ? &*links_ : nullptr);
}

double BytesOfRanks(const MeshVector& sizes, int num_ranks,
                    absl::FunctionRef<double(int stage)> bytes_of_stage) {
  double sum = 0, most = 0;
  for (int stage = 0; stage < sizes.pp; ++stage) {
    const double bytes = bytes_of_stage(stage);
    sum += bytes;
    most = std::max(most, bytes);
  }
  return num_ranks == NumRanks(sizes) ? sum * num_ranks / sizes.pp : most * num_ranks;
}

}  // namespace strake
