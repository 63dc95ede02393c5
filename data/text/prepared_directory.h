// The folder of prepared tokens: the names of its files, and DIRECTORY.unfinished, where they are
// written.
#ifndef STRAKE_DATA_TEXT_PREPARED_DIRECTORY_H_
#define STRAKE_DATA_TEXT_PREPARED_DIRECTORY_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"
#include "data/text/prepare_record.h"

namespace strake {

// The record of a folder that is finished, and of one that is not.
inline constexpr char kFinishedRecord[] = "prepared.json";
inline constexpr char kProgressRecord[] = "progress.json";

bool IsUnfinishedDirectory(absl::string_view path);

// Removes what only an unfinished folder needs from one that has its name. A call that was killed
// just after it gave the name leaves it.
void RemoveWorkFiles(const std::string& directory);

// Removes a folder that has only files that calls wrote. False where it has others: nothing is
// removed then.
absl::StatusOr<bool> RemoveResult(const std::string& directory);

// DIRECTORY.unfinished, locked while this lives.
class UnfinishedDirectory {
 public:
  // Makes it, and waits for other processes that work there; `poll` ends that by an error.
  static absl::StatusOr<UnfinishedDirectory> Open(const std::string& target,
                                                  const std::function<absl::Status()>& poll);

  std::string operator/(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  const std::string& path() const { return path_; }

  // Removes what is left of an earlier call, but for the files that `record` has. An error names a
  // file that no such call wrote.
  absl::Status RemoveAllBut(const PrepareRecord& record) const;

  // Removes the folder where it has nothing worth keeping.
  void RemoveIfUseless() const;

  // Gives the folder its name.
  absl::Status Finish(const std::string& target) const;

 private:
  explicit UnfinishedDirectory(std::string path) : path_(std::move(path)), lock_(-1) {}

  // Whether this process has the lock now, and the lock still is the folder's.
  absl::StatusOr<bool> TryLock() const;
  // Removes the folder, and those above it that were not there before, as far as they are empty.
  void Remove() const;

  std::string path_;
  FileDescriptor lock_;
  std::vector<std::string> new_folders_;  // the innermost first
};

}  // namespace strake

#endif  // STRAKE_DATA_TEXT_PREPARED_DIRECTORY_H_
