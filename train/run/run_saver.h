// RunSaver: saves a run's checkpoints, beside the steps that follow, and again where a disk fails.
#ifndef STRAKE_TRAIN_RUN_RUN_SAVER_H_
#define STRAKE_TRAIN_RUN_RUN_SAVER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "core/base/work_state.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"
#include "train/run/carried_files.h"
#include "train/run/checkpoint.h"
#include "train/run/run_directory.h"
#include "train/run/run_record.h"
#include "train/run/train_observer.h"
#include "train/run/trainer_options.h"

namespace strake {

// With options.async_save a save is a snapshot, in which all ranks take part, and a thread of the
// first rank that writes it, with a low priority; one at a time. Without it, and where the
// first rank has no memory for a snapshot, the ranks wait for the disk.
//
// Every rank of the mesh makes one and calls its functions in the same order, with the same record.
// The first rank alone writes files and tells its observers. The destructor waits for what is being
// written.
class RunSaver {
 public:
  // All arguments outlive the saver; `observers` are the first rank's, and none on the others.
  static absl::StatusOr<std::unique_ptr<RunSaver>> Create(
      const TrainerOptions& options, const Mesh& mesh, Engine& engine,
      const std::vector<TrainObserver*>& observers);
  ~RunSaver();

  // Of the first rank's snapshots; 0 where saves stop the run.
  size_t snapshot_bytes() const { return snapshot_bytes_; }

  // Sets the record of the last checkpoint in the directory; its step is 0 where there is none.
  void SetSaved(RunRecord saved) { saved_ = std::move(saved); }
  // The first rank's part: sets the directory to save in, and the files that its checkpoints carry;
  // writes `record` there, and deletes old checkpoints.
  absl::Status SetDirectory(RunDirectory directory, CarriedFiles carried, const RunRecord& record);

  // Reports what the thread that writes does for the next saves; null, the default: nothing. The
  // profile must outlive the saver.
  void set_profile(OpProfile* profile) { profile_ = profile; }

  // Whether the run is to be saved at this step: where it is on schedule, or to be tried again.
  absl::StatusOr<bool> TimeToSave(bool on_schedule) const;

  // Begins to save, with the fingerprint of the engine's state. A full or failing disk is a
  // warning, until it has been one for as long as the options say.
  absl::Status Save(const RunRecord& record);

  // Ends a save that has been written. `step` and `due` are the run's now.
  absl::Status EndIfWritten(int64_t step, const DueWork& due);

  // Notes beside the last checkpoint, if it is of this step, what is still due: a run that resumes
  // from there does not do the rest again.
  absl::Status Note(int64_t step, const DueWork& due);

  // Returns when the state of `record` is in a checkpoint, and what is due is noted there.
  absl::Status Finish(const RunRecord& record);

  // "The last checkpoint is PATH". Waits for one that is being written, on the first rank.
  std::string LastCheckpoint() const;

 private:
  struct Written {
    absl::Status status = {};
    absl::Status pruned = {};  // what became of older checkpoints
  };

  RunSaver(const TrainerOptions& options, const Mesh& mesh, Engine& engine,
           const std::vector<TrainObserver*>& observers);

  bool is_first_rank() const { return mesh_.rank() == 0; }
  absl::Status Warn(const std::string& text) const;
  absl::Status TellOfWaiting(bool waits);
  OnWork TellerWhereRanksWait() const;
  absl::Status WarnOfPruning(const absl::Status& error) const;
  double SecondsBetweenSaves() const;

  // The first rank's, on the thread that writes.
  absl::Status WriteRecord(const RunRecord& record) const;
  Written WriteFiles(absl::FunctionRef<absl::Status(const std::string&)> write);
  absl::Status ReadBackAndPrune();
  absl::Status WriteNote(const RunRecord& record) const;

  absl::Status Wait();
  bool IsWritten(std::chrono::milliseconds time) const;
  absl::Status SetSaving(const RunRecord& record);
  absl::Status SaveAndWait(const RunRecord& record);
  absl::StatusOr<Written> WriteWithAllRanks();
  absl::Status End(const Written& written);
  absl::Status TellOfCheckpoint(const absl::Status& pruned) const;
  absl::Status TellOfFailure(int64_t step, const absl::Status& status);
  absl::Status EndNote();

  const TrainerOptions& options_;
  const Mesh& mesh_;
  Engine& engine_;
  const std::vector<TrainObserver*>& observers_;
  size_t snapshot_bytes_ = 0;
  OpProfile* profile_ = nullptr;     // of the thread that writes
  bool failed_ = false;              // the last save
  std::atomic<bool> waits_ = false;  // the run, for a checkpoint that is being written
  RunRecord saved_;                  // of the last checkpoint in the directory
  std::optional<RunRecord> saving_;  // of the one that is being written

  // On the first rank:
  std::optional<RunDirectory> directory_;
  CheckpointFiles files_;
  std::optional<CheckpointSnapshot> snapshot_;
  std::optional<DueWork> noting_;  // what is being noted of saved_
  std::optional<double> failing_since_;
  double next_save_ = 0;
  std::shared_future<Written> writing_;  // of saving_ or noting_
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_SAVER_H_
