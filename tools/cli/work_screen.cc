#include "tools/cli/work_screen.h"

#include <optional>

#include "parallel/comm/launch_environment.h"

namespace strake {

void AddQuietOption(bool* quiet, OptionSet* options) {
  options
      ->Add("quiet", quiet, "show no progress and no notes, but results, warnings and errors alone")
      .FlagOnly();
}

WorkScreen::WorkScreen(int fd, bool quiet) : progress_(fd) {
  const std::optional<LaunchEnvironment> launch = DetectLaunchEnvironment();
  if (launch.has_value()) progress_.ShowNoBar();
  progress_.set_quiet(quiet || (launch.has_value() && launch->rank != 0));
  ticker_.emplace(&progress_);
}

}  // namespace strake
