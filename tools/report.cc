// Draws runs: `bazel run //tools:report -- RUN [RUN ...]`.

#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/durable_file.h"
#include "core/base/name_error.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/user_paths.h"
#include "train/report/run_report.h"

namespace strake {
namespace {

absl::StatusOr<std::vector<RunReport>> ReadRuns(const std::vector<std::string>& folders) {
  std::vector<RunReport> runs;
  std::set<std::string> seen;
  for (std::string folder : folders) {
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    if (!seen.insert(folder).second) {
      return absl::InvalidArgumentError(absl::StrCat("the run ", folder, " is named twice"));
    }
    STRAKE_ASSIGN_OR_RETURN(runs.emplace_back(), ReadRunReport(folder));
  }
  return runs;
}

absl::Status WriteReport(const std::vector<RunReport>& runs, const std::string& out) {
  std::vector<const RunReport*> pointers;
  for (const RunReport& run : runs) pointers.push_back(&run);
  STRAKE_RETURN_IF_ERROR(NameError("--out", WriteFileDurably(out, ReportPage(pointers))));
  std::cout << "wrote " << Printable(out) << "; open it in a browser\n";
  return FlushStdout();
}

absl::Status Report(int argc, char** argv) {
  ChangeToUserDirectory();
  std::string out = "report.html";
  OptionSet options("report RUN [RUN ...]");
  options.Group("A page of the runs in the folders RUN, finished or running, that a browser shows");
  options.Add("out", &out, "file of the page, which is replaced; ends in .html").AnyBytes();
  options.Paths({"out"});
  // The runs come first.
  std::vector<const char*> flags = {argv[0]};
  std::vector<std::string> folders;
  int i = 1;
  for (; i < argc && absl::string_view(argv[i]).substr(0, 1) != "-"; ++i) {
    folders.push_back(argv[i]);
  }
  flags.insert(flags.end(), argv + i, argv + argc);
  STRAKE_ASSIGN_OR_RETURN(const bool helped,
                          ParseFlagsOrHelp(static_cast<int>(flags.size()), flags.data(), &options));
  if (helped) return absl::OkStatus();
  if (folders.empty()) {
    return absl::InvalidArgumentError(
        "the folder of a run is missing; the call is report RUN [RUN ...] [--out=FILE]");
  }
  // A name by mistake must not cost a log.
  if (!absl::EndsWith(out, ".html")) {
    return absl::InvalidArgumentError(absl::StrCat("--out=", out, ": must end in .html"));
  }
  STRAKE_ASSIGN_OR_RETURN(const std::vector<RunReport> runs, ReadRuns(folders));
  return WriteReport(runs, out);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Report); }
