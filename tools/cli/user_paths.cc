#include "tools/cli/user_paths.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/base/name_error.h"
#include "core/base/path_kind.h"
#include "core/base/status_macros.h"
#include "data/data_paths.h"
#include "glog/logging.h"
#include "tools/cli/options.h"
#include "train/run/run_directory.h"

namespace strake {

void ChangeToUserDirectory() {
  const char* directory = std::getenv("BUILD_WORKING_DIRECTORY");
  if (directory != nullptr && chdir(directory) != 0) {
    PLOG(WARNING) << "cannot change to BUILD_WORKING_DIRECTORY=" << directory;
  }
}

absl::StatusOr<std::vector<std::string>> FilesOfFlag(const char* flag, const std::string& value) {
  return NameError(flag, ExpandPaths(value));
}

absl::StatusOr<std::vector<std::string>> LastingFilesOfFlag(const char* flag,
                                                            const std::string& value) {
  STRAKE_ASSIGN_OR_RETURN(std::vector<std::string> files, FilesOfFlag(flag, value));
  for (const std::string& file : files) {
    const auto kind = PathKindOf(file);
    if (file != "-" && (!kind.ok() || *kind != PathKind::kOther)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        flag, ": ", file, file == "-" ? " (standard input)" : " (a pipe or a device)",
        " can be read once, and files are read several times; pipe the text into //tools:prepare "
        "with --data=-, and name the token files that it writes"));
  }
  return files;
}

absl::StatusOr<std::string> ModelFolderOfFlag(absl::string_view flag, const std::string& path) {
  auto folder = FindModelFolder(path);
  if (folder.ok()) return folder;
  return absl::Status(folder.status().code(), absl::StrCat(flag, "=", folder.status().message()));
}

absl::StatusOr<std::string> RunfilePath(const std::string& path) {
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error);
  // A test's runfiles contain those of the programs it runs.
  const char* test_runfiles = std::getenv("TEST_SRCDIR");
  for (const std::string& root :
       {program + ".runfiles", std::string(test_runfiles == nullptr ? "" : test_runfiles)}) {
    // Strake's folder in it: with a WORKSPACE, as the main module, and as a dependency of another
    // one.
    for (const char* repository : {"/strake/", "/_main/", "/strake+/"}) {
      const std::string candidate = root + repository + path;
      if (!root.empty() && std::filesystem::exists(candidate, error)) return candidate;
    }
  }
  return absl::NotFoundError(absl::StrCat(path, " is not beside ", program));
}

}  // namespace strake
