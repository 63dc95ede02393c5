#include "core/base/path_kind.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/write_all.h"

namespace strake {

absl::StatusOr<PathKind> PathKindOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISREG(info.st_mode)) return PathKind::kFile;
    return S_ISDIR(info.st_mode) ? PathKind::kDirectory : PathKind::kOther;
  }
  // ENOTDIR: a folder of the path is a file.
  if (errno != ENOENT && errno != ENOTDIR) return SystemError("look at", path);
  if (lstat(path.c_str(), &info) == 0) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(path, error).string();
    return absl::NotFoundError(
        absl::StrCat(path, " is a symbolic link to ", target, ", which is not there"));
  }
  if (errno != ENOENT && errno != ENOTDIR) return SystemError("look at", path);
  return PathKind::kNothing;
}

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace strake
