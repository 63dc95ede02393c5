// RunDirectory: the folder of one training run, its lock and its checkpoints.
//
//   OUT/.lock       held while a RunDirectory exists; contains the holder's process id
//   OUT/step-N/     a complete checkpoint
//   OUT/step-N.tmp  one that is being written or deleted
//   OUT/step-N.old  one that is being replaced, where the file system cannot swap two names
//   OUT/step-N.damaged  one that was set aside; nothing here reads or deletes it
//
// A crash of the process or the machine at any moment keeps every checkpoint that was complete;
// Open() then removes what is left over. Errors name the path and the system's reason. No file is
// written through a symbolic link.
#ifndef STRAKE_TRAIN_RUN_RUN_DIRECTORY_H_
#define STRAKE_TRAIN_RUN_RUN_DIRECTORY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"

namespace strake {

// OUT/step-N.
std::string CheckpointPath(const std::string& run_directory, int64_t step);

// Steps of the complete checkpoints in a run's folder, ascending; needs no lock.
absl::StatusOr<std::vector<int64_t>> ListCheckpoints(const std::string& run_directory);

// The folder of a model: `path` itself where it has a config.json, as checkpoints do, or the last
// checkpoint of the run at `path`. NotFound where there is neither; messages begin with the path.
absl::StatusOr<std::string> FindModelFolder(const std::string& path);

class RunDirectory {
 public:
  // Makes the folder where it is missing, and locks it. FailedPrecondition, with the folder and the
  // holder's process id, while another RunDirectory has it open.
  static absl::StatusOr<RunDirectory> Open(const std::string& path);

  // As it was given, for people.
  const std::string& path() const { return path_; }
  // For system calls: the same folder even after someone has renamed or replaced it.
  const std::string& handle() const { return handle_; }
  // The status with path() where it names handle().
  absl::Status Named(const absl::Status& status) const;

  // Steps of the complete checkpoints, ascending.
  absl::StatusOr<std::vector<int64_t>> Checkpoints() const;
  // The last of them, if there is one.
  absl::StatusOr<std::optional<int64_t>> LatestCheckpoint() const;

  // Calls `write` to fill an empty folder, flushes the result to disk and renames it to step-N, in
  // place of an older step-N. On an error nothing is changed.
  absl::Status WriteCheckpoint(int64_t step,
                               absl::FunctionRef<absl::Status(const std::string& directory)> write);

  // Renames step-N to step-N.damaged, in place of an older one.
  absl::Status SetAside(int64_t step);

  // Deletes all but the last `keep_last` checkpoints, 0 keeps all, and what could not be deleted
  // before. Call it when a new one is complete. Returns the first error, after it tried all.
  absl::Status Prune(int64_t keep_last);

 private:
  RunDirectory(std::string path, FileDescriptor folder, FileDescriptor lock);

  absl::Status RestoreReplaced();
  absl::Status RemoveTemporaries();

  std::string path_, handle_;
  FileDescriptor folder_, lock_;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_RUN_RUN_DIRECTORY_H_
