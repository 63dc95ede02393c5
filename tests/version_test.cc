// --version of every program.
#include "core/base/version.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/run_program.h"

namespace strake {
namespace {

class VersionTest : public ::testing::TestWithParam<std::string> {
 protected:
  static void ExpectVersion(const testing::ProgramResult& result) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out, absl::StrCat("strake ", Version(), " (", BuildConfiguration(), ")\n"));
  }
};

TEST_P(VersionTest, IsPrinted) {
  ExpectVersion(testing::RunProgram("tools/" + GetParam(), {"--version"}));
}

TEST_P(VersionTest, ComesBeforeWhateverElseIsWrong) {
  ExpectVersion(testing::RunProgram("tools/" + GetParam(),
                                    {"--no_such_flag", "word", "--tp=-1", "--version", "--help"}));
}

INSTANTIATE_TEST_SUITE_P(Programs, VersionTest,
                         ::testing::Values("train", "generate", "benchmark", "check", "comm_cost",
                                           "evaluate", "export", "prepare", "step_times",
                                           "tokenizer", "verify"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace strake
