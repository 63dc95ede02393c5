// --version, --help, and completion of every program.
#include "core/base/version.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/run_program.h"
#include "tools/cli/foreign_names.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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
                                           "evaluate", "export", "prepare", "report", "schedule",
                                           "step_times", "tokenizer", "verify"),
                         [](const auto& info) { return info.param; });

// Every program that has options: verify takes folders alone.
const char* const kPrograms[] = {"train",     "generate", "benchmark",  "check",
                                 "comm_cost", "evaluate", "export",     "prepare",
                                 "report",    "schedule", "step_times", "tokenizer"};

TEST(HelpTest, HasAShortName) {
  for (const std::string program : kPrograms) {
    const testing::ProgramResult result = testing::RunProgram("tools/" + program, {"-h"});
    EXPECT_EQ(result.exit_code, 0) << program;
    const std::string runs = program == "report" ? " RUN [RUN ...]" : "";
    EXPECT_THAT(result.out, HasSubstr("Usage: " + program + runs + " [--name=value ...]\n"));
    EXPECT_EQ(result.out, testing::RunProgram("tools/" + program, {"--help"}).out);
  }
  EXPECT_THAT(testing::RunProgram("tools/verify", {"-h"}).out, HasSubstr("Usage: verify"));
}

TEST(HelpTest, OfAWordShowsThatAlone) {
  const testing::ProgramResult result = testing::RunProgram("tools/check", {"--help=seed"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, ::testing::StartsWith("Model\n  --init_from="));
  EXPECT_THAT(result.out, HasSubstr("\n  --seed="));
  EXPECT_THAT(result.out, Not(HasSubstr("--threads")));
}

TEST(CompletionTest, OfEveryProgramIsAScript) {
  for (const std::string program : kPrograms) {
    const testing::ProgramResult bash =
        testing::RunProgram("tools/" + program, {"--print_completion=bash"});
    EXPECT_EQ(bash.exit_code, 0) << bash.err;
    EXPECT_THAT(bash.out, HasSubstr("complete -F _strake_" + program + " " + program + "\n"));
    const testing::ProgramResult zsh =
        testing::RunProgram("tools/" + program, {"--print_completion=zsh"});
    EXPECT_EQ(zsh.exit_code, 0) << zsh.err;
    EXPECT_THAT(zsh.out, ::testing::StartsWith("#compdef " + program + "\n"));
  }
}

TEST(ForeignNamesTest, AnswersNameFlagsOfSomeProgram) {
  std::vector<std::string> helps;
  for (const std::string program : kPrograms) {
    helps.push_back(testing::RunProgram("tools/" + program, {"--help"}).out);
  }
  for (const ForeignName& foreign : ForeignNames()) {
    const std::vector<std::string> flags = FlagsInAnswer(foreign.answer);
    const bool known = std::any_of(helps.begin(), helps.end(), [&](const std::string& help) {
      return std::all_of(flags.begin(), flags.end(), [&](const std::string& flag) {
        return absl::StrContains(help, absl::StrCat("\n  --", flag, "="));
      });
    });
    EXPECT_TRUE(known) << foreign.name << ": no program has all flags of \"" << foreign.answer
                       << "\"";
  }
}

}  // namespace
}  // namespace strake
