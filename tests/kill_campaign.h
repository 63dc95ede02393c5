// KillCampaign: kills training runs at random moments, and looks at what is left.
#ifndef STRAKE_TESTS_KILL_CAMPAIGN_H_
#define STRAKE_TESTS_KILL_CAMPAIGN_H_

#include <cstdint>
#include <functional>
#include <string>

namespace strake::testing {

struct KillCampaign {
  int64_t num_kills = 100;
  uint64_t seed = 1;
  // Receives a line for each run in which something was wrong, and one at the end.
  std::function<void(const std::string& line)> report;
};

// Runs, of one rank and of four, are killed and resumed until they end. Each then has the last
// checkpoint and the metrics.jsonl of a run that was never killed, bit for bit, and leaves nothing
// over. Returns the number of runs of which that was not so.
int64_t RunKillCampaign(const KillCampaign& campaign);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_KILL_CAMPAIGN_H_
