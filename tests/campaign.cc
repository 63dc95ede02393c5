#include "tests/campaign.h"

#include <iostream>

#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "tools/cli/options.h"
#include "tools/cli/program.h"

namespace strake::testing {

int CampaignMain(int argc, char** argv, const std::string& name, const std::string& size_flag,
                 const std::string& size_help, int64_t size,
                 absl::FunctionRef<int64_t(const Campaign& campaign)> run) {
  const auto num_wrong = [&]() -> absl::StatusOr<int64_t> {
    int64_t seed = 1;
    OptionSet options(name);
    options.Group("Campaign");
    options.Add(size_flag, &size, size_help, Range::Between(0, 1e9));
    options.Add("seed", &seed, "seed of the draw", Range::Between(0, 1e15));
    STRAKE_ASSIGN_OR_RETURN(const bool helped, ParseFlagsOrHelp(argc, argv, &options));
    if (helped) return 0;
    return run({.size = size,
                .seed = static_cast<uint64_t>(seed),
                .report = [](const std::string& line) { std::cout << line << std::endl; }});
  }();
  if (!num_wrong.ok()) return ExitCode(num_wrong.status());
  return *num_wrong > 0 ? 1 : 0;
}

}  // namespace strake::testing
