// The folder of a run whose user names none: runs/llama-tiny, then runs/llama-tiny-2, ...
#ifndef STRAKE_TOOLS_CLI_RUN_NAME_H_
#define STRAKE_TOOLS_CLI_RUN_NAME_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "train/run/run_record.h"

namespace strake {

struct RunName {
  std::string directory;
  std::string reason;  // what `base` holds, where that is not the directory
};

// Of the folders `base`, base-2, base-3, ... takes the first that holds a run without `differences`
// from this one, which then goes on, else the first that holds no run. A run whose record cannot be
// read counts as this one, so that its error is reported. With `new_run`, runs with checkpoints do
// not count as this one. Makes nothing.
RunName ChooseRunName(
    const std::string& base, bool new_run,
    absl::FunctionRef<std::string(const std::string& directory, const RunRecord& record)>
        differences);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_RUN_NAME_H_
