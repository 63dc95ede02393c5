// Ranks on two hosts: the bits of threads, and hosts that are cut off, lost, started anew, or run
// something else. Over MPI they train; over the connections of NCCL's processes, with a fake NCCL,
// they sum.
#include "tests/two_hosts.h"

#include <signal.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/version.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/comm/testing/mpirun.h"
#include "tests/tiny_run.h"
#include "tools/cli/user_paths.h"
#include "train/run/run_directory.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// On a busy machine, too.
constexpr double kProgramSeconds = 120;

class TwoHostsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!WhyNoHosts().empty()) GTEST_SKIP() << WhyNoHosts();
    hosts_.emplace();
  }

  std::optional<TwoHosts> hosts_;
};

// --- MPI. ---

constexpr char kTrain[] = "tools/train";
constexpr char kWarning[] = "warning: if a machine is lost, mpirun ends ";
// A script of `sh -c`, which gets the program as $0.
constexpr char kRunProgram[] = "exec \"$0\" \"$@\"";

class MpiOnTwoHostsTest : public TwoHostsTest {
 protected:
  void SetUp() override {
    TwoHostsTest::SetUp();
    if (IsSkipped()) return;
    if (MpirunCommand(1).empty()) GTEST_SKIP() << "there is no mpirun in PATH";
    if (absl::StrContains(BuildConfiguration(), "no MPI")) GTEST_SKIP() << BuildConfiguration();
  }

  // Two ranks on each host.
  std::unique_ptr<Program> StartTraining(const Flags& flags, const Flags& mpirun_flags = {},
                                         const std::string& script = kRunProgram) {
    ProgramOptions options;
    options.timeout_seconds = kProgramSeconds;
    options.launcher =
        hosts_->Mpirun() + mpirun_flags + Flags{"-wdir", run_.path(), "sh", "-c", script};
    return std::make_unique<Program>(kTrain, RunFlags() + Flags{"--comm=mpi"} + flags, options);
  }
  ProgramResult Train(const Flags& flags, const std::string& script) {
    return StartTraining(flags, {}, script)->Wait();
  }

  // Expects at `step` of the run the files of an uninterrupted run on threads.
  void ExpectSameAsOnThreads(int step) const {
    const std::string whole = run_ / "whole", folder = absl::StrCat("/step-", step, "/");
    const ProgramResult threads = RunProgram(
        kTrain, RunFlags() + Flags{"--out=" + whole, absl::StrCat("--steps=", step)}, run_.Here());
    ASSERT_EQ(threads.exit_code, 0) << threads.err;
    EXPECT_EQ(TimelessMetrics(out_), TimelessMetrics(whole));
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(ReadFile(out_ + folder + file) == ReadFile(whole + folder + file)) << file;
    }
  }

  void ExpectNothingTrains() const {
    for (const int host : {1, 2}) EXPECT_TRUE(hosts_->WaitUntilGone(host, kTrain)) << host;
  }

  Flags RunFlags() const {
    return TinyRun::BaseFlags() +
           Flags{"--out=" + out_,       "--tp=2",         "--dp=2",
                 "--micro_batch=2",     "--zero=1",       "--sequence_parallel",
                 "--schedule=constant", "--log_every=10", "--global_batch=8"};
  }

  const TinyRun run_;
  const std::string out_ = run_ / "run";
};

constexpr char kEndless[] = "--steps=1000000";
constexpr char kStep10[] = "step      10/1000000";

TEST_F(MpiOnTwoHostsTest, TrainsToTheBitsOfThreads) {
  const ProgramResult result =
      Train({"--steps=4"},
            absl::StrCat("echo rank $OMPI_COMM_WORLD_RANK is on $(hostname); ", kRunProgram));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("rank 0 is on node1"), HasSubstr("rank 1 is on node1"),
                                HasSubstr("rank 2 is on node2"), HasSubstr("rank 3 is on node2")));
  EXPECT_THAT(result.err, HasSubstr(kWarning));
  EXPECT_EQ(result.err.find(kWarning), result.err.rfind(kWarning));
  ExpectSameAsOnThreads(4);
}

// mpirun itself waits much longer, and is killed.
TEST_F(MpiOnTwoHostsTest, RanksOnBothSidesOfACutLinkNameTheOther) {
  const auto program =
      StartTraining({kEndless, "--comm_timeout=8"}, {},
                    absl::StrCat(kRunProgram, " 2> ", run_ / "errors.", "$OMPI_COMM_WORLD_RANK"));
  ASSERT_TRUE(program->WaitForOutput(kStep10));
  hosts_->CutLink();
  ExpectNothingTrains();
  const auto errors = [&](int rank) { return ReadFile(run_ / absl::StrCat("errors.", rank)); };
  EXPECT_THAT(errors(0) + errors(1), HasSubstr("rank 1 of axis dp did not "));
  EXPECT_THAT(errors(2) + errors(3), HasSubstr("rank 0 of axis dp did not "));
}

// The shortest that work; docs/parallel.md has longer ones.
const Flags& Keepalive() {
  static const auto* const flags =
      new Flags{"--mca", "oob_tcp_keepalive_time",   "1", "--mca", "oob_tcp_keepalive_intvl", "1",
                "--mca", "oob_tcp_keepalive_probes", "2"};
  return *flags;
}

TEST_F(MpiOnTwoHostsTest, KeepaliveEndsARunWhoseLinkIsCut) {
  const auto program = StartTraining({kEndless, "--comm_timeout=600"}, Keepalive());
  ASSERT_TRUE(program->WaitForOutput(kStep10));
  hosts_->CutLink();
  const ProgramResult result = program->Wait();
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, AllOf(HasSubstr("lost communication"), HasSubstr("on node node2")));
  EXPECT_THAT(result.err, Not(HasSubstr(kWarning)));
  ExpectNothingTrains();
}

TEST_F(MpiOnTwoHostsTest, KeepaliveEndsARunWhoseHostIsLostAndItGoesOn) {
  const auto program =
      StartTraining({kEndless, "--comm_timeout=600", "--save_every=20"}, Keepalive());
  ASSERT_TRUE(program->WaitForOutput("step 20  saved "));
  hosts_->CutLink();
  hosts_->KillAll(2);
  const ProgramResult result = program->Wait();
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, AllOf(HasSubstr("lost communication"), HasSubstr("on node node2")));
  ExpectNothingTrains();
  // The run may have been at any step when the link was cut.
  const auto saved = ListCheckpoints(out_);
  ASSERT_TRUE(saved.ok() && !saved->empty()) << saved.status();
  const int64_t steps = saved->back() + 10;
  const ProgramResult resumed =
      RunProgram(kTrain, RunFlags() + Flags{absl::StrCat("--steps=", steps)}, run_.Here());
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  ExpectSameAsOnThreads(steps);
}

// Connections end then, which mpirun sees.
TEST_F(MpiOnTwoHostsTest, AHostWhoseProcessesEndIsMissedAtOnce) {
  const auto program = StartTraining({kEndless});
  ASSERT_TRUE(program->WaitForOutput(kStep10));
  hosts_->KillAll(2);
  const ProgramResult result = program->Wait();
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("node2"));
  ExpectNothingTrains();
}

constexpr char kOtherRun[] = "rank [23] has the settings of another run than rank 0: ";

TEST_F(MpiOnTwoHostsTest, AHostWithOtherDataUnderTheSameName) {
  for (const std::string host : {"node1", "node2"}) {
    std::filesystem::create_directory(run_ / host);
    for (const char* file : {"/llama.json", "/text.txt"}) {
      std::filesystem::copy(run_.path() + file, run_ / (host + file));
    }
  }
  WriteFile(run_ / "node2/text.txt", std::string(1000, 'x'));
  const ProgramResult result = Train({}, absl::StrCat("cd $(hostname); ", kRunProgram));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, ContainsRegex(absl::StrCat(kOtherRun, "train_data is ")));
  EXPECT_FALSE(std::filesystem::exists(out_));
}

// It differs in what it says of itself.
TEST_F(MpiOnTwoHostsTest, AHostWithAnotherProgram) {
  const std::string other = run_ / "train", own = BuildConfiguration();
  std::string bytes = ReadFile(*RunfilePath(kTrain));
  ASSERT_GT(absl::StrReplaceAll({{own, "xxx" + own.substr(3)}}, &bytes), 0);
  WriteFile(other, bytes);
  std::filesystem::permissions(other, std::filesystem::perms::owner_all);
  const ProgramResult result =
      Train({}, absl::StrCat("[ $(hostname) = node1 ] || exec ", other, " \"$@\"; ", kRunProgram));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(ContainsRegex(absl::StrCat(kOtherRun, "program is ")),
                                HasSubstr(own), HasSubstr("xxx" + own.substr(3))));
  EXPECT_FALSE(std::filesystem::exists(out_));
}

// --- The connections of NCCL's processes. ---

constexpr int kNumRanks = 4;
constexpr int kTimeout = 5000, kLongTimeout = 60000;
constexpr char kRank2Or3[] = "rank(s 2, 3| 2| 3) of (axis world|all 4) did not ";
constexpr char kNumbers[] = "1000", kWait[] = "wait";

class NcclOnTwoHostsTest : public TwoHostsTest {
 protected:
  // Ranks 0 and 1 are on node1.
  void Start(int rank, const std::string& task, int timeout, int size = kNumRanks) {
    ProgramOptions options;
    options.timeout_seconds = kProgramSeconds;
    options.launcher =
        hosts_->Enter(rank < 2 ? 1 : 2) + Flags{"env",
                                                absl::StrCat("RANK=", rank),
                                                absl::StrCat("WORLD_SIZE=", size),
                                                "MASTER_ADDR=node1",
                                                "MASTER_PORT=29500",
                                                "STRAKE_COMM_SECRET=known to all four ranks"};
    ranks_[rank] =
        std::make_unique<Program>("tests/nccl_rank", Flags{task, absl::StrCat(timeout)}, options);
  }
  void StartAll(const std::string& task, int timeout) {
    for (int rank = 0; rank < kNumRanks; ++rank) Start(rank, task, timeout);
  }
  void WaitUntilAllHaveMet() {
    for (const auto& rank : ranks_) ASSERT_TRUE(rank->WaitForOutput("met\n"));
  }
  std::string Error(int rank) { return ranks_[rank]->Wait().err; }
  void ExpectThatItWorks() {
    StartAll(kNumbers, kLongTimeout);
    for (int rank = 0; rank < kNumRanks; ++rank) EXPECT_EQ(Error(rank), "OK\n");
  }

  std::unique_ptr<Program> ranks_[kNumRanks];
};

TEST_F(NcclOnTwoHostsTest, SumsToTheBitsOfThreads) { ExpectThatItWorks(); }

TEST_F(NcclOnTwoHostsTest, RanksOnBothSidesOfACutLinkNameTheOther) {
  StartAll(kWait, kTimeout);
  WaitUntilAllHaveMet();
  hosts_->CutLink();
  for (const int rank : {0, 1}) EXPECT_THAT(Error(rank), ContainsRegex(kRank2Or3));
  for (const int rank : {2, 3}) {
    EXPECT_THAT(Error(rank), ContainsRegex("rank 0 of (axis world|all 4) did not "));
  }
}

TEST_F(NcclOnTwoHostsTest, ALostHostIsNamed) {
  StartAll(kWait, kTimeout);
  WaitUntilAllHaveMet();
  hosts_->CutLink();
  hosts_->KillAll(2);
  for (const int rank : {0, 1}) EXPECT_THAT(Error(rank), ContainsRegex(kRank2Or3));
}

TEST_F(NcclOnTwoHostsTest, AProcessThatStartsAnewFindsNobodyAndTheNextRunWorks) {
  StartAll(kWait, kLongTimeout);
  WaitUntilAllHaveMet();
  ranks_[2]->Send(SIGKILL);
  ranks_[2]->Wait();
  Start(2, kWait, kTimeout);
  for (const int rank : {0, 1, 3}) {
    EXPECT_THAT(Error(rank), HasSubstr("rank 2 of all 4 ended without a word"));
  }
  EXPECT_THAT(Error(2), HasSubstr("rank 0 at node1:29500 could not be reached within 5000 ms"));
  ExpectThatItWorks();
}

TEST_F(NcclOnTwoHostsTest, AHostThatDoesSomethingElse) {
  for (const int rank : {0, 1}) Start(rank, kNumbers, kLongTimeout);
  for (const int rank : {2, 3}) Start(rank, "1001", kLongTimeout);
  for (int rank = 0; rank < kNumRanks; ++rank) {
    EXPECT_THAT(Error(rank), AllOf(HasSubstr("ranks disagree: rank 0 called all_reduce_sum #0 of "
                                             "f32[1000]"),
                                   HasSubstr("f32[1001]")));
  }
}

TEST_F(NcclOnTwoHostsTest, AHostWithAnotherNumberOfProcesses) {
  Start(0, kNumbers, kTimeout);
  Start(3, kNumbers, kLongTimeout, /*size=*/5);
  for (const int rank : {0, 3}) {
    EXPECT_THAT(Error(rank), HasSubstr("rank 3 was started with WORLD_SIZE=5, and rank 0 with "
                                       "WORLD_SIZE=4"));
  }
}

}  // namespace
}  // namespace strake::testing

int main(int argc, char** argv) {
  strake::testing::EnterOwnNamespaces(argv);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
