#include "data/text/prepared_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <set>
#include <system_error>
#include <thread>

#include "absl/strings/match.h"
#include "core/base/durable_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"
#include "data/document_index.h"
#include "data/target_ranges.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

constexpr char kLock[] = "lock";
constexpr char kUnfinished[] = ".unfinished";  // the end of a folder's name while it is filled

// Whether a call can have written a file of this name.
bool IsOurs(const std::string& name) {
  return name == kLock || absl::StartsWith(name, "tokens-") ||
         absl::StartsWith(name, kFinishedRecord) || absl::StartsWith(name, kProgressRecord);
}

}  // namespace

bool IsUnfinishedDirectory(absl::string_view path) { return absl::EndsWith(path, kUnfinished); }

void RemoveWorkFiles(const std::string& directory) {
  for (const char* name : {kProgressRecord, kLock}) {
    unlink(absl::StrCat(directory, "/", name).c_str());
  }
}

absl::StatusOr<bool> RemoveResult(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> paths = {absl::StrCat(directory, "/", kFinishedRecord)};
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (!IsOurs(entry.path().filename().string())) return false;
    paths.push_back(entry.path().string());
  }
  if (error) return false;
  // The record is the first: without it the folder is no result, should this be interrupted.
  for (const std::string& path : paths) {
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return SystemError("remove", path);
  }
  if (rmdir(directory.c_str()) != 0) return SystemError("remove", directory);
  return true;
}

absl::StatusOr<UnfinishedDirectory> UnfinishedDirectory::Open(
    const std::string& target, const std::function<absl::Status()>& poll) {
  UnfinishedDirectory place(target + kUnfinished);
  std::error_code error;
  for (fs::path folder = fs::path(target).parent_path(); !fs::exists(folder, error);
       folder = folder.parent_path()) {
    place.new_folders_.push_back(folder.string());
  }
  while (true) {
    STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(place.path_));
    const std::string lock = place / kLock;
    place.lock_ = FileDescriptor(open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (!place.lock_.valid() && errno == ENOENT) continue;  // it was finished just now
    if (!place.lock_.valid()) return SystemError("create", lock);
    STRAKE_ASSIGN_OR_RETURN(const bool locked, place.TryLock());
    if (locked) return place;
    STRAKE_RETURN_IF_ERROR(poll());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

absl::Status UnfinishedDirectory::RemoveAllBut(const PrepareRecord& record) const {
  std::set<std::string> kept = {kLock};
  if (!record.files.empty()) kept.insert(kProgressRecord);
  for (const PrepareFile& file : record.files) {
    kept.insert(file.name);
    kept.insert(DocumentIndexPath(file.name));
    kept.insert(TargetRangesPath(file.name));
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    if (kept.contains(name)) continue;
    if (!IsOurs(name)) {
      return absl::FailedPreconditionError(absl::StrCat(
          entry.path().string(), ": no file of unfinished tokens; move it out of this folder"));
    }
    if (unlink(entry.path().c_str()) != 0) return SystemError("remove", entry.path().string());
  }
  return error ? SystemError("list", path_, error.value()) : absl::OkStatus();
}

void UnfinishedDirectory::RemoveIfUseless() const {
  std::error_code error;
  if (fs::exists(*this / kProgressRecord, error) || !RemoveAllBut({}).ok()) return;
  Remove();
}

absl::Status UnfinishedDirectory::Finish(const std::string& target) const {
  // Until it has the name, the lock keeps others out, and a later call needs the progress.
  if (rename(path_.c_str(), target.c_str()) != 0) return SystemError("rename", path_);
  RemoveWorkFiles(target);
  return SyncPath(fs::path(target).parent_path().string());
}

void UnfinishedDirectory::Remove() const {
  unlink((*this / kLock).c_str());
  rmdir(path_.c_str());
  for (const std::string& folder : new_folders_) rmdir(folder.c_str());
}

absl::StatusOr<bool> UnfinishedDirectory::TryLock() const {
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK || errno == EINTR) return false;
    return SystemError("lock", *this / kLock);
  }
  struct stat mine, there;
  return fstat(lock_.get(), &mine) == 0 && stat((*this / kLock).c_str(), &there) == 0 &&
         mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

}  // namespace strake
