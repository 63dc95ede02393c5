// Where relative paths start, and where files that were built with a program lie.
#ifndef STRAKE_TOOLS_CLI_USER_PATHS_H_
#define STRAKE_TOOLS_CLI_USER_PATHS_H_

#include <string>

#include "absl/status/statusor.h"

namespace strake {

// Goes to where the user stands: `bazel run` starts programs elsewhere and says where in the
// environment.
void ChangeToUserDirectory();

// The path of a file of Strake's, "data/kjv.txt", among the running program's runfiles. NotFound
// where the program was copied without them.
absl::StatusOr<std::string> RunfilePath(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_USER_PATHS_H_
