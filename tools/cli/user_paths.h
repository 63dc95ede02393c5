// The user's directory, the files that a flag names, and the files built with a program.
#ifndef STRAKE_TOOLS_CLI_USER_PATHS_H_
#define STRAKE_TOOLS_CLI_USER_PATHS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Changes to the user's directory: `bazel run` starts programs elsewhere and sets a variable with
// it.
void ChangeToUserDirectory();

// Expands a flag whose value is a comma-separated list of paths and globs. An error names the flag.
absl::StatusOr<std::vector<std::string>> FilesOfFlag(const char* flag, const std::string& value);

// The same for files that are read several times. Standard input, a pipe and a device are an error,
// which says how to make token files of what they give.
absl::StatusOr<std::vector<std::string>> LastingFilesOfFlag(const char* flag,
                                                            const std::string& value);

// The directory of a model that a flag names: itself, or where it is the --out of a run, its last
// checkpoint. FindModelFolder()'s error, with the flag.
absl::StatusOr<std::string> ModelFolderOfFlag(absl::string_view flag, const std::string& path);

// The path of one of Strake's files, "data/kjv.txt", among the running program's runfiles. NotFound
// where the program was copied without them.
absl::StatusOr<std::string> RunfilePath(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_USER_PATHS_H_
