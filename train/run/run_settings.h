// What of a run's options run.json holds, under the names of //tools:train's flags.
#ifndef STRAKE_TRAIN_RUN_RUN_SETTINGS_H_
#define STRAKE_TRAIN_RUN_RUN_SETTINGS_H_

#include <string>

#include "core/base/dtype.h"
#include "nlohmann/json_fwd.hpp"
#include "parallel/mesh/mesh.h"
#include "train/run/trainer_options.h"

namespace strake {

// What makes a run this run: RunRecord::identity. `data_fingerprint` is that of TrainingData.
nlohmann::ordered_json IdentityOf(const TrainerOptions& options,
                                  const std::string& data_fingerprint);

// RunRecord::config: the program's own options, then those of the trainer that are not among them.
// CHECKs that options.program_config, unless it is empty, is a JSON object.
nlohmann::ordered_json ConfigOf(const TrainerOptions& options, const MeshVector& sizes);

// What all ranks must have been given alike: both, but for threads, which differ between machines,
// and where files lie.
nlohmann::ordered_json SharedSettings(nlohmann::ordered_json config,
                                      const nlohmann::ordered_json& identity);

// "fp32", as the dtype is called in a config.
std::string DTypeSetting(DType dtype);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_SETTINGS_H_
