// Kills training runs at random moments, and looks at what is left: tests/kill_campaign.h.
#include <cstdint>
#include <iostream>

#include "core/base/status_macros.h"
#include "tests/kill_campaign.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"

namespace strake {
namespace {

absl::StatusOr<int64_t> Run(int argc, char** argv) {
  testing::KillCampaign campaign;
  int64_t seed = campaign.seed;
  OptionSet options("kill_campaign");
  options.Group("Campaign");
  options.Add("kills", &campaign.num_kills, "kills in all", Range::Between(0, 1e9));
  options.Add("seed", &seed, "seed of the moments", Range::Between(0, 1e15));
  STRAKE_RETURN_IF_ERROR(options.ParseFlags(argc, argv));
  if (options.help_requested()) {
    std::cout << options.Help();
    return 0;
  }
  campaign.seed = seed;
  campaign.report = [](const std::string& line) { std::cout << line << std::endl; };
  return testing::RunKillCampaign(campaign);
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  const absl::StatusOr<int64_t> num_wrong = strake::Run(argc, argv);
  if (!num_wrong.ok()) return strake::ExitCode(num_wrong.status());
  return *num_wrong > 0 ? 1 : 0;
}
