// The user's directory, the files that a flag names, and the files built with a program.
#ifndef STRAKE_TOOLS_CLI_USER_PATHS_H_
#define STRAKE_TOOLS_CLI_USER_PATHS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strake {

// Changes to the user's directory: `bazel run` starts programs elsewhere and sets a variable with
// it.
void ChangeToUserDirectory();

// Expands a flag whose value is a comma-separated list of paths and globs. An error names the flag.
absl::StatusOr<std::vector<std::string>> FilesOfFlag(const char* flag, const std::string& value);

// The path of one of Strake's files, "data/kjv.txt", among the running program's runfiles. NotFound
// where the program was copied without them.
absl::StatusOr<std::string> RunfilePath(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_USER_PATHS_H_
