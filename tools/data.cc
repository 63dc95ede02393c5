// Tells what a run was trained on: `bazel run //tools:data -- --help`.

#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"
#include "tools/data_why/why.h"

namespace strake {
namespace {

constexpr char kUsage[] = "data why RUN --step=N [--row=R]";

void AddWhyOptions(WhyOptions* why, OptionSet* options) {
  options->Group("The documents that the tokens of a step of the run in the folder RUN came from");
  options->Add("step", &why->step, "the step, from 1, as in metrics.jsonl",
               Range::Between(0, 1e15));
  options->Add("row", &why->row, "the sequence of the step's batch, from 0; -1: all",
               Range::Between(-1, 1e9));
  options->Add("tokens", &why->tokens, "print each token, too");
  options->Add("list", &why->list,
               "print the documents alone, each once, as --skip_data of //tools:train takes them");
}

absl::Status Usage(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, "; the call is ", kUsage));
}

absl::Status Data(int argc, char** argv) {
  ChangeToUserDirectory();
  WhyOptions why;
  bool quiet = false;
  OptionSet options("data why RUN");
  AddWhyOptions(&why, &options);
  AddQuietOption(&quiet, &options);
  std::vector<std::string> words;  // the command, then the run
  options.TakeWords(&words);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  if (words.empty() || words[0] != "why") {
    return Usage(words.empty() ? "what to print is missing"
                               : absl::StrCat("\"", words[0], "\" is nothing that data prints"));
  }
  if (words.size() != 2) {
    return Usage(words.size() < 2 ? "the folder of a run is missing"
                                  : absl::StrCat("\"", words[2], "\" is one word too many"));
  }
  if (!options.IsSet("step")) return Usage("--step is missing");
  why.run = words[1];
  WorkScreen screen(STDERR_FILENO, quiet);
  STRAKE_RETURN_IF_ERROR(PrintWhy(why, &std::cout, screen->Teller()));
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Data); }
