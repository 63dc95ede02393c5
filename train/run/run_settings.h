// The options of a run that run.json holds, under the names of //tools:train's flags.
#ifndef STRAKE_TRAIN_RUN_RUN_SETTINGS_H_
#define STRAKE_TRAIN_RUN_RUN_SETTINGS_H_

#include <string>

#include "core/base/dtype.h"
#include "nlohmann/json_fwd.hpp"
#include "parallel/mesh/mesh.h"
#include "train/run/trainer_options.h"

namespace strake {

// The options that identify a run: RunRecord::identity. `data_fingerprint` and `data_rules` are
// those of TrainingData. The first rules, which earlier versions had, are not written. With LoRA,
// `base_weights` is BaseChecksum() of the frozen weights.
nlohmann::ordered_json IdentityOf(const TrainerOptions& options,
                                  const std::string& data_fingerprint,
                                  DataRules data_rules = DataRules::kBytesAndEnd,
                                  const std::string& base_weights = "");

// The rules under which an identity's run reads its data.
DataRules DataRulesOf(const nlohmann::ordered_json& identity);

// The chat format of an identity's run; "": none.
std::string ChatFormatOf(const nlohmann::ordered_json& identity);

// RunRecord::config: the program's own options, then the trainer's other options. CHECKs that
// options.program_config, unless it is empty, is a JSON object.
nlohmann::ordered_json ConfigOf(const TrainerOptions& options, const MeshVector& sizes);

// What must be equal on all ranks: `config` and `identity`, except threads, which differ between
// machines, and paths of files; and "program", the version and how it was built.
nlohmann::ordered_json SharedSettings(nlohmann::ordered_json config,
                                      const nlohmann::ordered_json& identity);

// The dtype's name in a config: "fp32".
std::string DTypeSetting(DType dtype);

// Whether a value of "resume" in those settings is the path of a checkpoint, and no policy's name.
bool IsResumePath(const std::string& resume);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_SETTINGS_H_
