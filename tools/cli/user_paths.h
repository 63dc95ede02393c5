// Where relative paths start, which files a flag names, and where those lie that were built with a
// program.
#ifndef STRAKE_TOOLS_CLI_USER_PATHS_H_
#define STRAKE_TOOLS_CLI_USER_PATHS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strake {

// Goes to where the user stands: `bazel run` starts programs elsewhere and says where in the
// environment.
void ChangeToUserDirectory();

// The files of a flag whose value is a comma-separated list of paths and globs. An error names the
// flag.
absl::StatusOr<std::vector<std::string>> FilesOfFlag(const char* flag, const std::string& value);

// The path of a file of Strake's, "data/kjv.txt", among the running program's runfiles. NotFound
// where the program was copied without them.
absl::StatusOr<std::string> RunfilePath(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_USER_PATHS_H_
