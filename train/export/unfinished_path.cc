#include "train/export/unfinished_path.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

namespace fs = std::filesystem;

// Says that a folder, whatever else it holds, is ours to empty.
constexpr char kMark[] = "/.unfinished";

std::string WithoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return SystemError("rename", absl::StrCat(from, " to ", to));
}

absl::Status SetMark(const std::string& folder) {
  const std::string path = folder + kMark;
  const FileDescriptor fd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  return fd.valid() ? absl::OkStatus() : SystemError("create", path);
}

// Locks a folder, so that nobody else takes it over while it is removed.
absl::StatusOr<FileDescriptor> LockFolder(const std::string& path) {
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return SystemError("open", path);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return SystemError("lock", path);
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": another process is writing it; wait, or choose another name"));
}

}  // namespace

UnfinishedPath::UnfinishedPath(std::string target, Kind kind)
    : target_(std::move(target)), path_(target_ + ".unfinished"), kind_(kind), lock_(-1) {}

absl::StatusOr<std::unique_ptr<UnfinishedPath>> UnfinishedPath::Open(const std::string& target,
                                                                     Kind kind) {
  std::unique_ptr<UnfinishedPath> place(new UnfinishedPath(WithoutSlashes(target), kind));
  STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(FolderOf(place->target_)));
  for (bool locked = false; !locked;) {
    STRAKE_ASSIGN_OR_RETURN(locked, place->TryLock());
  }
  STRAKE_RETURN_IF_ERROR(place->Clear());
  place->cleared_ = true;
  return place;
}

UnfinishedPath::~UnfinishedPath() {
  std::error_code ignored;
  if (!finished_ && cleared_) fs::remove_all(path_, ignored);
}

// False where another process finished it meanwhile.
absl::StatusOr<bool> UnfinishedPath::TryLock() {
  if (kind_ == Kind::kFolder && mkdir(path_.c_str(), 0777) != 0 && errno != EEXIST) {
    return SystemError("create", path_);
  }
  const int how = kind_ == Kind::kFolder ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT;
  FileDescriptor fd(open(path_.c_str(), how | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!fd.valid() && errno == ENOENT) return false;
  if (!fd.valid()) return SystemError("create", path_);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError("lock", path_);
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": another process is writing it; wait, or choose another name"));
  }
  struct stat mine, there;
  if (fstat(fd.get(), &mine) != 0 || stat(path_.c_str(), &there) != 0 ||
      mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) {
    return false;
  }
  lock_ = std::move(fd);
  return true;
}

absl::Status UnfinishedPath::Clear() const {
  if (kind_ == Kind::kFile) return absl::OkStatus();  // whoever writes it truncates it
  std::error_code error;
  if (!fs::is_empty(path_, error) && !fs::exists(path_ + kMark, error)) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, ": holds files that are no unfinished export; move it, or choose another name"));
  }
  for (fs::directory_iterator entry(path_, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path() != path_ + kMark) fs::remove_all(entry->path(), error);
  }
  return error ? SystemError("empty", path_, error.value()) : SetMark(path_);
}

absl::Status UnfinishedPath::Finish(bool replace) {
  STRAKE_RETURN_IF_ERROR(kind_ == Kind::kFolder ? SyncTree(path_) : SyncPath(path_));
  STRAKE_ASSIGN_OR_RETURN(const PathKind there, PathKindOf(target_));
  if (there != PathKind::kNothing && !replace) {
    return absl::AlreadyExistsError(absl::StrCat(target_, ": it exists"));
  }
  // A rename replaces a file, but no folder.
  if (there == PathKind::kDirectory) return ReplaceFolder();
  STRAKE_RETURN_IF_ERROR(Rename(path_, target_));
  finished_ = true;
  RemoveMark();
  return SyncPath(FolderOf(target_));
}

void UnfinishedPath::RemoveMark() const {
  if (kind_ == Kind::kFolder) unlink((target_ + kMark).c_str());
}

// At every moment the target is all of the old folder or all of the new.
absl::Status UnfinishedPath::ReplaceFolder() {
  STRAKE_ASSIGN_OR_RETURN(const FileDescriptor old_lock, LockFolder(target_));
  // Its name will be this one's, should the process be killed before it is removed.
  STRAKE_RETURN_IF_ERROR(SetMark(target_));
  if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) {
      return SystemError("exchange", absl::StrCat(path_, " and ", target_));
    }
    finished_ = true;  // it is whole, so it stays
    RemoveMark();
    unlink((path_ + kMark).c_str());
    return absl::FailedPreconditionError(absl::StrCat(
        target_, ": its file system cannot exchange two folders; remove it and rename ", path_,
        ", which is whole"));
  }
  finished_ = true;
  RemoveMark();
  STRAKE_RETURN_IF_ERROR(SyncPath(FolderOf(target_)));
  std::error_code error;
  fs::remove_all(path_, error);
  return error ? SystemError("remove", path_, error.value()) : absl::OkStatus();
}

}  // namespace strake
