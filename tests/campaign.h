// Campaign: what the programs that do harm to training runs have in common.
#ifndef STRAKE_TESTS_CAMPAIGN_H_
#define STRAKE_TESTS_CAMPAIGN_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/function_ref.h"

namespace strake::testing {

struct Campaign {
  int64_t size = 0;  // kills, or faults
  uint64_t seed = 1;
  // Receives a line for each thing that was wrong, and one at the end.
  std::function<void(const std::string& line)> report;
};

// The main() of the program NAME, whose flag `size_flag` sets the size. `run` returns how often
// something was wrong; the exit code is then 1.
int CampaignMain(int argc, char** argv, const std::string& name, const std::string& size_flag,
                 const std::string& size_help, int64_t size,
                 absl::FunctionRef<int64_t(const Campaign& campaign)> run);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_CAMPAIGN_H_
