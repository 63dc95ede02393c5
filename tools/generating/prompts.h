// The prompts of a file:
//
//   *.jsonl, *.ndjson   an object a line, whose member "prompt" is a prompt
//   other text          a prompt a line
//
// Empty lines are left out.
#ifndef STRAKE_TOOLS_GENERATING_PROMPTS_H_
#define STRAKE_TOOLS_GENERATING_PROMPTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// `path` tells the format. InvalidArgument, naming path and line, for a line that is no such
// object, and where there is no prompt.
absl::StatusOr<std::vector<std::string>> ParsePrompts(absl::string_view content,
                                                      const std::string& path);
absl::StatusOr<std::vector<std::string>> ReadPrompts(const std::string& path);

}  // namespace strake

#endif  // STRAKE_TOOLS_GENERATING_PROMPTS_H_
