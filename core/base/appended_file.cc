#include "core/base/appended_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

absl::StatusOr<FileDescriptor> OpenToAppend(const std::string& path) {
  FileDescriptor fd(open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return SystemError("open", path);
  return fd;
}

}  // namespace

absl::StatusOr<AppendedFile> AppendedFile::Open(const std::string& path, int64_t max_bytes) {
  STRAKE_ASSIGN_OR_RETURN(FileDescriptor fd, OpenToAppend(path));
  return AppendedFile(path, std::move(fd), max_bytes);
}

AppendedFile::AppendedFile(std::string path, FileDescriptor fd, int64_t max_bytes)
    : path_(std::move(path)), max_bytes_(max_bytes), fd_(std::move(fd)) {}

absl::Status AppendedFile::Append(absl::string_view record) {
  const std::lock_guard<std::mutex> lock(*mutex_);
  absl::StrAppend(&unwritten_, record);
  const absl::Status status = WriteUnwritten();
  return IsErrorOfADisk(status) ? absl::OkStatus() : status;
}

absl::Status AppendedFile::Sync() {
  {
    const std::lock_guard<std::mutex> lock(*mutex_);
    STRAKE_RETURN_IF_ERROR(WriteUnwritten());
  }
  // A flush takes its time on a slow disk, so the lock is free meanwhile.
  struct stat info;
  const bool deleted = fstat(fd_.get(), &info) == 0 && info.st_nlink == 0;
  if (!deleted && fsync(fd_.get()) == 0) return absl::OkStatus();
  const absl::Status status = SystemError("flush", path_);
  const std::lock_guard<std::mutex> lock(*mutex_);
  return WriteAnew(status);
}

// Linux takes pages that it could not write for written: a second fsync() would succeed, and the
// records would be lost. They are still there to be read, and are written to a new file. So are
// those of a file that someone has deleted.
absl::Status AppendedFile::WriteAnew(const absl::Status& reason) {
  const auto text = ReadFile(absl::StrCat("/proc/self/fd/", fd_.get()), max_bytes_);
  if (!text.ok() || !WriteFileDurably(path_, *text).ok()) return reason;
  STRAKE_ASSIGN_OR_RETURN(fd_, OpenToAppend(path_));
  return absl::OkStatus();
}

absl::Status AppendedFile::WriteUnwritten() {
  absl::string_view rest = unwritten_;
  const absl::Status status = WriteFrom(fd_.get(), &rest, path_);
  unwritten_.erase(0, unwritten_.size() - rest.size());
  return status;
}

absl::Status KeepDamaged(const std::string& path, absl::string_view damaged, int64_t max_bytes) {
  const auto before = ReadFile(path, max_bytes);
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  return WriteFileDurably(path, absl::StrCat(before.ok() ? *before : "", damaged));
}

}  // namespace strake
