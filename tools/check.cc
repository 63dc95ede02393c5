// Checks a build on a model, batch and layout: `bazel run //tools:check -- --help`.

#include <unistd.h>

#include <iostream>

#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "tools/checking/check_config.h"
#include "tools/checking/check_report.h"
#include "tools/checking/check_run.h"
#include "tools/cli/program.h"
#include "tools/cli/terminal_lines.h"
#include "tools/cli/user_paths.h"
#include "tools/cli/work_screen.h"

namespace strake {
namespace {

// Returns the exit code: 1 where a comparison exceeds its tolerance.
absl::StatusOr<int> Check(int argc, char** argv) {
  ChangeToUserDirectory();
  STRAKE_ASSIGN_OR_RETURN(const CheckCommand command, ParseCheckCommand(argc, argv));
  if (command.show_help) {
    std::cout << command.help;
    STRAKE_RETURN_IF_ERROR(FlushStdout());
    return 0;
  }
  WorkScreen screen(STDOUT_FILENO, command.config.quiet);
  screen->set_line_columns(LineColumns(STDOUT_FILENO));
  STRAKE_ASSIGN_OR_RETURN(const CheckReport report, RunCheck(command, &*screen));
  screen->Print(report.Verdict());
  STRAKE_RETURN_IF_ERROR(FlushStdout());
  return report.ExitCode();
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) { return strake::ProgramMain(argc, argv, strake::Check); }
