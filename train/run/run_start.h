// Where a run begins or goes on, and its claim on its directory.
#ifndef STRAKE_TRAIN_RUN_RUN_START_H_
#define STRAKE_TRAIN_RUN_RUN_START_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "parallel/mesh/mesh.h"
#include "train/run/run_directory.h"
#include "train/run/trainer_options.h"

namespace strake {

struct RunStart {
  std::string checkpoint = {};  // "" for a new run
  int64_t step = 0;             // done
  int64_t samples = 0;          // consumed
  int64_t saved_step = 0;  // the last in a checkpoint in the directory; 0 is a run that has none
  // Of options that changed in vain, or that change the rest of the run. The first rank's alone.
  std::vector<std::string> warnings = {};
};

// FailedPrecondition, listing each difference, where this rank's `settings` are not the first
// rank's: processes on several machines may have been given other options and files.
absl::Status CheckSameOnAllRanks(const Mesh& mesh, const nlohmann::ordered_json& settings);

// The first rank's part: looks at the checkpoint to resume from and at the directory, and opens it
// where it exists. Changes no file. `identity` is that of RunRecord; FailedPrecondition where what
// is found is another run.
absl::StatusOr<RunStart> FindRunStart(const TrainerOptions& options,
                                      const nlohmann::ordered_json& identity,
                                      std::optional<RunDirectory>* directory);

// All but the warnings of what the first rank found, on every rank.
absl::Status ShareRunStart(const Mesh& mesh, RunStart* start);

// Makes and opens the directory where it was not there. To be called when nothing else can fail, so
// that no error leaves an empty folder behind.
absl::Status ClaimDirectory(const TrainerOptions& options, std::optional<RunDirectory>* directory);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_START_H_
