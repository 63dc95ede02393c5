// The weights of the base that a run's adapter belongs to. run.json has their checksum, since an
// adapter beside another base is another model.
#ifndef STRAKE_TRAIN_RUN_BASE_WEIGHTS_H_
#define STRAKE_TRAIN_RUN_BASE_WEIGHTS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "models/checkpoint/model_files.h"
#include "models/model_config.h"

namespace strake {

// WeightsChecksum() of a directory. It reads all weights.
absl::StatusOr<std::string> BaseChecksum(const std::string& directory, const ModelConfig& config,
                                         const OnWork& on_work = nullptr);

// DataLoss, with both checksums, where the base is not the one that the adapter's run.json has. OK
// where there is no adapter, and for one of another program.
absl::Status CheckBaseOfAdapter(const ModelFiles& files, const ModelConfig& config,
                                const OnWork& on_work = nullptr);

// The same for directories, and a checksum of the base that is known.
absl::Status CheckBaseOfAdapter(const std::string& adapter, const std::string& base,
                                const std::string& checksum);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_BASE_WEIGHTS_H_
