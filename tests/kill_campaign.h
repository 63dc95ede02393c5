// RunKillCampaign: kills training runs at random moments, and looks at what is left.
#ifndef STRAKE_TESTS_KILL_CAMPAIGN_H_
#define STRAKE_TESTS_KILL_CAMPAIGN_H_

#include <cstdint>

#include "tests/campaign.h"

namespace strake::testing {

// Runs, of one rank and of four, of all weights and of adapters, in stages and in other stages
// after each resume, are killed and resumed until they end. Each then has the last checkpoint, the
// metrics.jsonl and the events of a run that was never killed, bit for bit, and leaves nothing
// over. The campaign's size is the number of kills, of which each kind of run has its share.
// Returns the number of runs of which that was not so.
int64_t RunKillCampaign(const Campaign& campaign);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_KILL_CAMPAIGN_H_
