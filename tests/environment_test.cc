// The programs' environment in a shell: variables, closed streams, pipes that end.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"
#include "tools/cli/user_paths.h"

namespace strake {
namespace {

using testing::Flags;
using testing::Losses;
using testing::ReadTree;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::operator+;

std::string ProgramPath(const std::string& name) {
  const auto path = RunfilePath(name);
  CHECK(path.ok()) << path.status();
  return std::filesystem::absolute(*path);
}

// The exit code of `command` in the run's folder, where $PROGRAM is the program.
int Shell(const TinyRun& run, const std::string& name, const std::string& command) {
  unsetenv("BUILD_WORKING_DIRECTORY");
  setenv("PROGRAM", ProgramPath(name).c_str(), 1);
  const int status = std::system(absl::StrCat("cd ", run.path(), " && ", command).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string TrainCommand(const Flags& flags) {
  return absl::StrCat("$PROGRAM ", absl::StrJoin(TinyRun::BaseFlags() + flags, " "));
}

TEST(EnvironmentTest, FewerOpenMpThreadsMoveNoLoss) {
  for (const char* setting : {"OMP_THREAD_LIMIT=1", "OMP_DYNAMIC=true"}) {
    const TinyRun run;
    ASSERT_EQ(
        Shell(run, "tools/train", TrainCommand({"--out=plain", "--threads=1"}) + ">/dev/null"), 0);
    // More threads than cores: OMP_DYNAMIC takes some away.
    ASSERT_EQ(Shell(run, "tools/train",
                    absl::StrCat(setting, " ", TrainCommand({"--threads=64"}), ">/dev/null")),
              0);
    const auto expected = Losses(run / "plain"), losses = Losses(run / "run");
    ASSERT_EQ(losses.size(), expected.size());
    // Sums are in another order; lost rows would change the second digit.
    for (size_t i = 0; i < losses.size(); ++i) {
      EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << setting << ", step " << i + 1;
    }
  }
}

TEST(EnvironmentTest, ClosedStreamsChangeNoFile) {
  for (const char* closed : {">&-", "2>&-", ">&- 2>&- <&-"}) {
    const TinyRun open, shut;
    const Flags flags = {"--log_every=1", "--eval_every=4", "--save_every=4"};
    ASSERT_EQ(Shell(open, "tools/train", TrainCommand(flags) + " >/dev/null"), 0);
    ASSERT_EQ(
        Shell(shut, "tools/train",
              absl::StrCat(TrainCommand(flags), " ", closed, *closed == '2' ? " >/dev/null" : "")),
        0);
    EXPECT_EQ(Shell(shut, "tools/train", "test $(wc -l < run/.lock) = 1"), 0) << closed;
    EXPECT_EQ(TimelessMetrics(shut / "run"), TimelessMetrics(open / "run")) << closed;
    EXPECT_EQ(ReadTree(shut / "run/step-8"), ReadTree(open / "run/step-8")) << closed;
  }
}

TEST(EnvironmentTest, LostOutputIsAnError) {
  const TinyRun run;
  EXPECT_EQ(Shell(run, "tools/train", "$PROGRAM --print_config > /dev/full 2>/dev/null"), 1);
  EXPECT_EQ(Shell(run, "tools/benchmark",
                  "$PROGRAM --model=llama.json --seq_len=8 --steps=1 --threads=1 --json "
                  "> /dev/full 2>/dev/null"),
            1);
  EXPECT_EQ(Shell(run, "tools/generate", "$PROGRAM --help > /dev/full 2>/dev/null"), 1);
}

}  // namespace
}  // namespace strake
