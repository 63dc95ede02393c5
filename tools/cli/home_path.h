// The home directory in paths that shells pass on as they are: `--out=~/runs`.
#ifndef STRAKE_TOOLS_CLI_HOME_PATH_H_
#define STRAKE_TOOLS_CLI_HOME_PATH_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Replaces ~ by $HOME where the path is "~" or begins with "~/"; other paths stay as they are.
// FailedPrecondition where that needs HOME and it is not set.
absl::StatusOr<std::string> ExpandHome(absl::string_view path);

// The same in each entry of a comma-separated list, also after an entry's name: "~/a,books:~/b".
// Commas of $HOME become "\,", which is one of a name.
absl::StatusOr<std::string> ExpandHomeInList(absl::string_view paths);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_HOME_PATH_H_
