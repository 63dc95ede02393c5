// Prints the table of Strake's kernels on an H200: `bazel run //tools:kernel_report -- --help`.

#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/durable_file.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"
#include "tools/cli/user_paths.h"
#include "tools/kernels/kernel_table.h"

namespace strake {
namespace {

absl::Status Write(const std::string& text) {
  const char* const root = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (root == nullptr) {
    return absl::FailedPreconditionError("--write needs `bazel run //tools:kernel_report`");
  }
  return WriteFileDurably(absl::StrCat(root, "/", kKernelTablePath), text);
}

absl::Status Report(int argc, char** argv) {
  bool write = false;
  OptionSet options("kernel_report");
  options.Add("write", &write, "also replaces the repository's table, tools/kernels/h200.txt")
      .FlagOnly();
  STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
  if (helped) return absl::OkStatus();
  STRAKE_ASSIGN_OR_RETURN(const std::string path, RunfilePath(kKernelTablePath));
  STRAKE_ASSIGN_OR_RETURN(const std::string committed, ReadFile(path));
  STRAKE_ASSIGN_OR_RETURN(const KernelTable table, CurrentKernelTable(committed));
  STRAKE_ASSIGN_OR_RETURN(const std::string text, KernelTableText(table));
  std::cout << text << "\n";
  for (const std::string& fault : KernelFaults(table)) std::cout << "fault: " << fault << "\n";
  if (write) STRAKE_RETURN_IF_ERROR(Write(text));
  return FlushStdout();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Report); }
