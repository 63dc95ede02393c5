// Kills training runs at random moments, and looks at what is left: tests/kill_campaign.h.
#include "tests/campaign.h"
#include "tests/kill_campaign.h"

int main(int argc, char** argv) {
  return strake::testing::CampaignMain(argc, argv, "kill_campaign", "kills", "kills in all", 100,
                                       strake::testing::RunKillCampaign);
}
