// Where a run of //tools:train begins or goes on, and its claim on --out.
#ifndef STRAKE_TRAIN_RUN_RUN_START_H_
#define STRAKE_TRAIN_RUN_RUN_START_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "tools/cli/progress.h"
#include "tools/cli/train_config.h"
#include "train/run/run_directory.h"

namespace strake {

struct RunStart {
  std::string checkpoint;  // "" for a new run
  int64_t step = 0;        // done
  int64_t samples = 0;     // consumed
  int64_t saved_step = 0;  // the last in a checkpoint in --out; 0 is a run that has none
};

// FailedPrecondition, listing each difference, where this rank's `settings` are not the first
// rank's: processes on several machines may have been given other flags and files.
absl::Status CheckSameOnAllRanks(const Mesh& mesh, const nlohmann::ordered_json& settings);

// The first rank's part: looks at --resume and --out, and opens --out where it exists. Changes no
// file. `identity` is that of RunRecord; FailedPrecondition where what it finds is another run.
// Warns on `screen` of options that changed in vain.
absl::StatusOr<RunStart> FindRunStart(const TrainConfig& config,
                                      const nlohmann::ordered_json& identity, Progress* screen,
                                      std::optional<RunDirectory>* directory);

// What the first rank found, on every rank.
absl::Status ShareRunStart(const Mesh& mesh, RunStart* start);

// Makes and opens --out where it was not there. To be called when nothing else can fail, so that no
// error leaves an empty folder behind.
absl::Status ClaimDirectory(const std::string& out, std::optional<RunDirectory>* directory);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_START_H_
