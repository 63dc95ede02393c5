// Scripts by which shells complete a program's options.
//
//   source <(bazel-bin/tools/train --print_completion=bash)
#ifndef STRAKE_TOOLS_CLI_COMPLETION_H_
#define STRAKE_TOOLS_CLI_COMPLETION_H_

#include <string>

#include "absl/strings/string_view.h"
#include "tools/cli/options.h"

namespace strake {

// The script that completes the names of the program's options, the values of those that have a
// list of them, and the files of those that are paths. `shell` is "bash" or "zsh".
std::string CompletionScript(const OptionSet& options, absl::string_view shell);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_COMPLETION_H_
