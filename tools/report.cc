// Draws runs: `bazel run //tools:report -- RUN [RUN ...]`.

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

// The folder, whatever names lead to it.
std::string Canonical(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(folder, error);
  return error ? folder : path.string();
}

absl::StatusOr<std::vector<RunReport>> ReadRuns(const std::vector<std::string>& folders) {
  std::vector<RunReport> runs;
  std::map<std::string, std::string> seen;
  for (const std::string& folder : folders) {
    if (folder.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("run ", runs.size() + 1, " is \"\", and must be a folder"));
    }
    const auto [first, is_new] = seen.emplace(Canonical(folder), folder);
    if (!is_new) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the run ", folder, " is named twice",
          first->second == folder ? "" : absl::StrCat(", the first time as ", first->second)));
    }
    const size_t size = std::max<size_t>(folder.find_last_not_of('/') + 1, 1);  // npos + 1 is 0
    STRAKE_ASSIGN_OR_RETURN(runs.emplace_back(), ReadRunReport(folder.substr(0, size)));
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
  std::vector<std::string> folders;
  options.TakeWords(&folders);
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
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
