// WorkScreen: where a program shows its work while it lasts.
//
//   bool quiet = false;
//   AddQuietOption(&quiet, &options);
//   ...
//   WorkScreen screen(STDERR_FILENO, quiet);
//   screen->Work({.what = "reading weights"});
#ifndef STRAKE_TOOLS_CLI_WORK_SCREEN_H_
#define STRAKE_TOOLS_CLI_WORK_SCREEN_H_

#include <optional>

#include "tools/cli/options.h"
#include "tools/cli/progress.h"

namespace strake {

// Adds --quiet: no work is shown, and no notes. Results, warnings and errors are printed.
void AddQuietOption(bool* quiet, OptionSet* options);

// A Progress, and the clock that moves it while the work itself tells nothing. Of the processes
// that a launcher started the first one alone shows something, and lines: launchers pass on no bar.
class WorkScreen {
 public:
  // `fd` is STDOUT_FILENO, or STDERR_FILENO where what is on stdout is for other programs.
  WorkScreen(int fd, bool quiet);

  Progress& operator*() { return progress_; }
  Progress* operator->() { return &progress_; }

 private:
  Progress progress_;
  std::optional<ProgressTicker> ticker_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_WORK_SCREEN_H_
