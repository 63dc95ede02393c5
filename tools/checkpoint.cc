#include "tools/checkpoint.h"

#include <vector>

#include "core/base/status_macros.h"
#include "models/hf_checkpoint.h"
#include "models/model_config.h"
#include "tools/durable_file.h"

namespace strake {
namespace {

std::vector<ArenaArray> OptimizerArrays(Engine& engine) {
  return {{".exp_avg", engine.optimizer().exp_avg()},
          {".exp_avg_sq", engine.optimizer().exp_avg_sq()}};
}

}  // namespace

absl::Status WriteCheckpoint(const std::string& directory, Engine& engine,
                             const RunRecord& record) {
  const ParameterArena& parameters = engine.parameters();
  STRAKE_RETURN_IF_ERROR(
      WriteFileDurably(directory + "/config.json", ToHfConfig(engine.model().config())));
  STRAKE_RETURN_IF_ERROR(
      SaveArrays(directory + "/model.safetensors", parameters, {{"", parameters.values()}}));
  STRAKE_RETURN_IF_ERROR(
      SaveArrays(directory + "/optimizer.safetensors", parameters, OptimizerArrays(engine)));
  return WriteFileDurably(directory + "/run.json", ToJson(record));
}

absl::Status LoadCheckpoint(const std::string& directory, Engine& engine) {
  STRAKE_RETURN_IF_ERROR(LoadWeights(directory, engine.parameters()));
  return LoadArrays(directory + "/optimizer.safetensors", engine.parameters(),
                    OptimizerArrays(engine));
}

}  // namespace strake
