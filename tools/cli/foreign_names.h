// Answers to the flags that people know from other trainers.
#ifndef STRAKE_TOOLS_CLI_FOREIGN_NAMES_H_
#define STRAKE_TOOLS_CLI_FOREIGN_NAMES_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace strake {

// What a flag of Hugging Face's Trainer, Megatron-LM, nanoGPT, llm.c and others is called here, and
// how its value translates: "--lr" where the value is the same, else a sentence with our flags.
// Programs differ in their options, so a name may have several answers.
struct ForeignName {
  std::string name;  // lower case, words joined by _; a single letter with its -
  std::string answer;
};
const std::vector<ForeignName>& ForeignNames();

// The names of the flags in an answer: {"lr"}.
std::vector<std::string> FlagsInAnswer(absl::string_view answer);

// A sentence's rest for the unknown flag `name`, "it is --lr here"; empty where the name is not
// known, or no answer has options of this program alone. Case and - or _ make no difference.
std::string AnswerToForeignName(absl::string_view name,
                                absl::FunctionRef<bool(absl::string_view)> is_option);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_FOREIGN_NAMES_H_
