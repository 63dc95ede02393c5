#include "core/base/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "core/base/file_descriptor.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "core/base/write_all.h"

namespace strake {
namespace {

// Writes a new file: what is there under its name, perhaps a link to another file, is left over.
absl::Status WriteAndSync(const std::string& path, absl::string_view text) {
  // Its error is that of open().
  (void)unlink(path.c_str());
  const FileDescriptor fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.valid()) return SystemError("create", path);
  STRAKE_RETURN_IF_ERROR(WriteAll(fd.get(), text, path));
  if (fsync(fd.get()) != 0) return SystemError("flush", path);
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteFileDurably(const std::string& path, absl::string_view text) {
  const std::string temporary = path + ".tmp";
  absl::Status status = WriteAndSync(temporary, text);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = SystemError("replace", path);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return SyncPath(FolderOf(path));
}

absl::Status MakeDirectoriesDurably(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return absl::OkStatus();
  const std::string folder = FolderOf(path);
  if (folder != path) STRAKE_RETURN_IF_ERROR(MakeDirectoriesDurably(folder));
  if (mkdir(path.c_str(), 0777) != 0) {
    const absl::Status status = SystemError("create the folder", path);
    // It exists by now: another process was faster, or `path` is "a/" and "a" has just been
    // created.
    if (!std::filesystem::is_directory(path, error)) return status;
  }
  return SyncPath(folder);
}

absl::Status SyncPath(const std::string& path) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return SystemError("open", path);
  if (fsync(fd.get()) != 0) return SystemError("flush", path);
  return absl::OkStatus();
}

absl::Status SyncTree(const std::string& directory) {
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(directory, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    STRAKE_RETURN_IF_ERROR(SyncPath(entry->path().string()));
  }
  if (error) return SystemError("list", directory, error.value());
  return SyncPath(directory);
}

}  // namespace strake
