// UnfinishedPath: a file or folder that has its name only when it is whole.
#ifndef STRAKE_TRAIN_EXPORT_UNFINISHED_PATH_H_
#define STRAKE_TRAIN_EXPORT_UNFINISHED_PATH_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"

namespace strake {

// TARGET.unfinished, an empty file or folder of this process alone while this lives. One that a
// process left when it was killed is taken over. A folder of others is left as it is, which is an
// error: the hidden file ".unfinished" tells them apart.
class UnfinishedPath {
 public:
  enum class Kind { kFile, kFolder };

  // Creates it, and missing folders above it. An error names the path and the reason:
  // FailedPrecondition while another process has it.
  static absl::StatusOr<std::unique_ptr<UnfinishedPath>> Open(const std::string& target, Kind kind);
  // Removes it, unless it was finished.
  ~UnfinishedPath();

  const std::string& path() const { return path_; }

  // Flushes all to the disk and renames it to the target. With `replace`, what is there is
  // replaced in one step and then removed; otherwise that is an error. Where the file system cannot
  // exchange two folders, the error says so, and both stay.
  absl::Status Finish(bool replace);

 private:
  UnfinishedPath(std::string target, Kind kind);

  absl::StatusOr<bool> TryLock();
  absl::Status Clear() const;
  absl::Status ReplaceFolder();
  void RemoveMark() const;  // of the target

  const std::string target_, path_;
  const Kind kind_;
  FileDescriptor lock_;
  bool cleared_ = false, finished_ = false;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_EXPORT_UNFINISHED_PATH_H_
