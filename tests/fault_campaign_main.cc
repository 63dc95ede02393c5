// Makes the system calls of training runs fail, and looks at what is left: tests/fault_campaign.h.
#include "tests/campaign.h"
#include "tests/fault_campaign.h"

int main(int argc, char** argv) {
  return strake::testing::CampaignMain(argc, argv, "fault_campaign", "faults",
                                       "faults, drawn from all; 0: all of them", 0,
                                       strake::testing::RunFaultCampaign);
}
