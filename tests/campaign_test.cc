// The campaigns in short; `bazel run //tests:kill_campaign` and `//tests:fault_campaign` are long.
#include <iostream>
#include <string>

#include "gtest/gtest.h"
#include "tests/fault_campaign.h"
#include "tests/kill_campaign.h"

namespace strake::testing {
namespace {

void Report(const std::string& line) { std::cout << line << std::endl; }

TEST(KillCampaignTest, NothingIsLost) {
  EXPECT_EQ(RunKillCampaign({.size = 40, .report = Report}), 0);
}

TEST(FaultCampaignTest, NothingIsLost) {
  EXPECT_EQ(RunFaultCampaign({.size = 40, .report = Report}), 0);
}

}  // namespace
}  // namespace strake::testing
