// Finds where a run starts or resumes, and claims its directory.
#ifndef STRAKE_TRAIN_RUN_RUN_START_H_
#define STRAKE_TRAIN_RUN_RUN_START_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/mesh/mesh.h"
#include "train/run/run_directory.h"
#include "train/run/run_record.h"
#include "train/run/trainer_options.h"

namespace strake {

struct RunStart {
  std::string checkpoint = {};  // "" for a new run
  int64_t step = 0;             // done
  int64_t samples = 0;          // consumed
  int64_t saved_step = 0;       // the last in a checkpoint in the directory; 0 if there is none
  DueWork due = {};             // after that step, before the next
  // The checkpoint's, as it was saved; empty where that is not known.
  std::string fingerprint = {};
  bool held_run = false;  // whether the directory did before; on the first rank alone
  // Steps of later checkpoints, which are to be set aside. On the first rank alone.
  std::vector<int64_t> damaged = {};
  // On options that changed without effect, or that change the rest of the run. On the first rank
  // alone.
  std::vector<std::string> warnings = {};
};

// FailedPrecondition, listing each difference, where this rank's `settings` differ from the first
// rank's: processes on several machines may have been given different options and files.
absl::Status CheckSameOnAllRanks(const Mesh& mesh, const nlohmann::ordered_json& settings);

// How the run that the options go on with reads its data; what a new run does where there is none,
// or where its record cannot be read, which FindRunStart() tells of.
struct DataToGoOnWith {
  DataRules rules = DataRules::kDocuments;
  // options.chat_format, or where that is empty the run's: its template may be gone.
  std::string chat_format = {};
};
DataToGoOnWith FindDataToGoOnWith(const TrainerOptions& options);

// The checkpoint that the options resume from, unless it is damaged; empty where there is none.
std::string CheckpointToGoOnWith(const TrainerOptions& options);

// The first rank's part: finds the checkpoint to resume from and the directory, and opens the
// directory where it exists. Changes no file. `now` is the run's record; FailedPrecondition where
// the checkpoint or directory is of another run. Records of runs have the data's fingerprint in one
// of several forms: `data_like` computes it in that of a given one.
absl::StatusOr<RunStart> FindRunStart(const TrainerOptions& options, const RunRecord& now,
                                      absl::FunctionRef<std::string(const std::string&)> data_like,
                                      std::optional<RunDirectory>* directory);

// The path of the last checkpoint, of those of `steps` (ascending) in a directory, that is whole
// and whose record can be read; nothing if there is none. Adds the steps of later ones to
// `damaged`, which may be null.
std::optional<std::string> NewestGoodCheckpoint(const std::string& directory,
                                                const std::vector<int64_t>& steps,
                                                std::vector<int64_t>* damaged);

// Broadcasts what the first rank has found to every rank, except what is its own.
absl::Status ShareRunStart(const Mesh& mesh, RunStart* start);

// Makes and opens the directory if it was missing. Call it when nothing else can fail, so that no
// error leaves an empty folder behind.
absl::Status ClaimDirectory(const TrainerOptions& options, std::optional<RunDirectory>* directory);

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_START_H_
