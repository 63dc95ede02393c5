// Processes that fail in the middle of a collective: this binary starts itself again under mpirun,
// with the fault of rank 1 of three.
#include <fcntl.h>
#include <poll.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/launch_environment.h"
#include "parallel/comm/mpi/mpi_communicator.h"
#include "parallel/comm/testing/communicator_suite.h"
#include "parallel/comm/testing/mpirun.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kNumProcesses = 3;
constexpr std::chrono::milliseconds kTimeout(2000), kLongTimeout(60000);
// Beyond the timeout: mpirun's start and end, and the wait of ExitAfterFailure(), on a busy
// machine.
constexpr std::chrono::seconds kLimit(60);
constexpr int kExitCode = 3;

// --- In a process under mpirun. ---

std::string mark;  // of this run's processes

void Print(MpiRuntime& mpi, const absl::Status& status) {
  std::fprintf(stderr, "process %d: %s\n", mpi.rank(), status.ToString().c_str());
}

// Sends news through files, which survive any failure.
std::filesystem::path News(const std::string& text) {
  return std::filesystem::path(::testing::TempDir()) / absl::StrCat(text, mark);
}
void Tell(const std::string& text) { std::ofstream(News(text)) << text; }
void WaitFor(const std::string& text) {
  const auto end = std::chrono::steady_clock::now() + kLimit / 2;
  while (!std::filesystem::exists(News(text)) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// After the others have printed, too: mpirun ends all processes when the first one fails.
[[noreturn]] void PrintAndFail(MpiRuntime& mpi, const absl::Status& status,
                               const std::vector<int>& others) {
  Print(mpi, status);
  Tell(absl::StrCat("printed", mpi.rank()));
  for (const int rank : others) WaitFor(absl::StrCat("printed", rank));
  mpi.ExitAfterFailure(kExitCode);
}

std::unique_ptr<Communicator> World(MpiRuntime& mpi, std::chrono::milliseconds timeout) {
  auto world = mpi.CreateWorld({.axis = "tp", .timeout = timeout, .check = true});
  for (int i = 0; i < 2; ++i) {
    if (const absl::Status status = world->Barrier(); !status.ok()) {
      Print(mpi, status);
      mpi.ExitAfterFailure(1);
    }
  }
  return world;
}

absl::Status AllReduce(Communicator& comm, int64_t n) {
  TestTensor x(DType::kF32, {n});
  FillConstant(x, 1);
  return comm.AllReduceSum(x).Wait().status();
}

// Large enough to be in flight for a while, in streams.
constexpr int64_t kLarge = 16 << 20;

// What rank 1 does, while the others reduce `n` elements.
struct Fault {
  int64_t n;
  std::function<absl::Status(Communicator&)> call;
  // True if the others detect by their timeout that rank 1 does not come.
  bool is_timed = false;
  bool prints = true;
  // The news that the others wait for, where joining rank 1's call would end it.
  std::string news{};
};

const std::map<std::string, Fault>& Faults() {
  static const auto* const faults = new std::map<std::string, Fault>{
      {"disagreement", {8, [](Communicator& comm) { return AllReduce(comm, 9); }}},
      {"abort",
       {8,
        [](Communicator& comm) {
          // It may overtake a barrier on its way to rank 2.
          std::this_thread::sleep_for(std::chrono::milliseconds(100));
          comm.Abort(absl::DataLossError("a torn page"));
          return comm.Barrier();
        }}},
      {"drop",
       {kLarge,
        [](Communicator& comm) {
          TestTensor x(DType::kF32, {kLarge});
          FillConstant(x, 1);
          { const auto pending = comm.AllReduceSum(x); }
          Tell("dropped");
          return comm.Barrier();
        },
        /*is_timed=*/false, /*prints=*/true, "dropped"}},
      {"late",
       {8,
        [](Communicator& comm) {
          std::this_thread::sleep_for(3 * kTimeout);
          return AllReduce(comm, 8);
        },
        /*is_timed=*/true}},
      {"stop",
       {8,
        [](Communicator&) {
          std::raise(SIGSTOP);
          return absl::OkStatus();
        },
        /*is_timed=*/true, /*prints=*/false}},
      {"stop in the middle",
       {kLarge,
        [](Communicator& comm) {
          TestTensor x(DType::kF32, {kLarge});
          FillConstant(x, 1);
          const auto pending = comm.AllReduceSum(x);
          std::raise(SIGSTOP);
          return absl::OkStatus();
        },
        /*is_timed=*/true, /*prints=*/false}},
  };
  return *faults;
}

[[noreturn]] void RunFault(MpiRuntime& mpi, const std::string& name) {
  const Fault& fault = Faults().at(name);
  const auto world = World(mpi, fault.is_timed ? kTimeout : kLongTimeout);
  if (mpi.rank() != 1 && !fault.news.empty()) WaitFor(fault.news);
  const absl::Status status = mpi.rank() == 1 ? fault.call(*world) : AllReduce(*world, fault.n);
  PrintAndFail(mpi, status, fault.prints ? std::vector<int>{0, 1, 2} : std::vector<int>{0, 2});
}

// Rank 1 comes to its end while the others are in a collective.
int Leave(MpiRuntime& mpi) {
  auto world = World(mpi, kLongTimeout);
  if (mpi.rank() == 1) return 0;
  PrintAndFail(mpi, world->Barrier(), {0, 2});
}

int Kill(MpiRuntime& mpi, int kind) {
  const auto world = World(mpi, kLongTimeout);
  if (mpi.rank() == 1) std::raise(SIGKILL);
  Print(mpi, EveryCollective()[kind].call(*world));
  mpi.ExitAfterFailure(kExitCode);
}

// Uses a world for each kind of collective. Rank 0 lets rank 1 continue to the next.
int StopInEach(MpiRuntime& mpi) {
  const auto together = mpi.CreateWorld();
  int64_t pids[kNumProcesses] = {};
  int64_t pid = getpid();
  const Tensor all(pids, DType::kI64, {kNumProcesses});
  if (!together->AllGather(Tensor(&pid, DType::kI64, {1}), all).Wait().ok()) return 1;
  for (const NamedCollective& collective : EveryCollective()) {
    if (!together->Barrier().ok()) return 1;
    const auto world = World(mpi, kTimeout);
    const bool message =
        collective.kind == CollectiveKind::kSend || collective.kind == CollectiveKind::kRecv;
    if (mpi.rank() == 1) std::raise(SIGSTOP);
    if (mpi.rank() == 1 || (mpi.rank() == 2 && message)) continue;
    Print(mpi, collective.call(*world));
    if (mpi.rank() == 2) continue;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // rank 2 times out too
    kill(static_cast<pid_t>(pids[1]), SIGCONT);
  }
  return 0;
}

int RunScenario(const std::string& name, int argument) {
  auto mpi = MpiRuntime::Create();
  if (!mpi.ok()) {
    std::fprintf(stderr, "%s\n", mpi.status().ToString().c_str());
    return 1;
  }
  if (name == "probe") return 0;
  if (name == "kill") return Kill(**mpi, argument);
  if (name == "leave") return Leave(**mpi);
  if (name == "stop in each") return StopInEach(**mpi);
  RunFault(**mpi, name);
}

// --- In the test. ---

std::string own_path;

struct Outcome {
  int exit_code = -1;
  std::string output;
  double seconds = 0;
};

// The number of processes whose command line contains `text`.
int NumProcessesWith(const std::string& text) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    count += line.find(text) != std::string::npos;
  }
  return count;
}

// Reads until the other end is closed, or the limit.
std::string ReadAll(int fd, std::chrono::steady_clock::time_point limit) {
  std::string text;
  while (std::chrono::steady_clock::now() < limit) {
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&waiting, 1, 100) <= 0) continue;
    char buffer[4096];
    const ssize_t bytes = read(fd, buffer, sizeof(buffer));
    if (bytes <= 0) break;
    text.append(buffer, bytes);
  }
  return text;
}

// Fails if it takes too long, or leaves processes behind.
Outcome RunUnderMpirun(const std::string& scenario, int argument = 0) {
  static int num_runs = 0;
  const std::string own_mark = absl::StrCat("--mark=", getpid(), "-", num_runs++);
  std::vector<std::string> command = MpirunCommand(kNumProcesses);
  for (const std::string& word : {own_path, scenario, absl::StrCat(argument), own_mark}) {
    command.push_back(word);
  }
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) ADD_FAILURE() << "no pipe";
  const auto begin = std::chrono::steady_clock::now();
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    Exec(command);
    _exit(127);
  }
  close(ends[1]);
  Outcome outcome;
  outcome.output = ReadAll(ends[0], begin + kLimit);
  close(ends[0]);
  int status = 0;
  if (waitpid(pid, &status, WNOHANG) == 0 && std::chrono::steady_clock::now() > begin + kLimit) {
    ADD_FAILURE() << scenario << " hangs";
    kill(pid, SIGTERM);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    kill(pid, SIGKILL);
  }
  waitpid(pid, &status, 0);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(NumProcessesWith(own_mark), 0) << outcome.output;
  return outcome;
}

class MpiFailureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (MpirunCommand(1).empty()) GTEST_SKIP() << "there is no mpirun in PATH";
    // A process outside mpirun may not start MPI: mpirun would not start from it any more.
    static const Outcome probe = RunUnderMpirun("probe");
    if (probe.output.find("UNIMPLEMENTED") != std::string::npos) GTEST_SKIP() << probe.output;
    ASSERT_EQ(probe.exit_code, 0) << probe.output;
  }
};

// The others end in time with their own error, which contains each of the parts.
void ExpectFailure(const Outcome& outcome, const std::string& where, const std::string& cause) {
  EXPECT_EQ(outcome.exit_code, kExitCode) << outcome.output;
  for (const int rank : {0, 2}) {
    EXPECT_THAT(outcome.output,
                ::testing::ContainsRegex(absl::StrCat("process ", rank, ": [A-Z_]+: \\[", where,
                                                      ", axis tp, rank ", rank, " of 3\\] ")));
  }
  EXPECT_THAT(outcome.output, HasSubstr(cause));
}

TEST_F(MpiFailureTest, Disagreement) {
  const Outcome outcome = RunUnderMpirun("disagreement");
  ExpectFailure(outcome, "all_reduce_sum #2", "rank 1 called all_reduce_sum #2 of f32[9] at ");
  // The other side is the first that met rank 1.
  EXPECT_THAT(outcome.output, AnyOf(HasSubstr("rank 0 called all_reduce_sum #2 of f32[8] at "),
                                    HasSubstr("rank 2 called all_reduce_sum #2 of f32[8] at ")));
}

TEST_F(MpiFailureTest, Abort) {
  ExpectFailure(RunUnderMpirun("abort"), "all_reduce_sum #2",
                "rank 1 of axis tp aborted: a torn page");
}

TEST_F(MpiFailureTest, ADroppedResult) {
  ExpectFailure(RunUnderMpirun("drop"), "all_reduce_sum #2",
                "rank 1 of axis tp dropped all_reduce_sum #2 of f32[16777216] at ");
}

TEST_F(MpiFailureTest, ALateRank) {
  const Outcome outcome = RunUnderMpirun("late");
  ExpectFailure(outcome, "all_reduce_sum #2", "rank 1 of axis tp did not join within 2000 ms");
  EXPECT_THAT(outcome.output, HasSubstr("process 1: DEADLINE_EXCEEDED"));
}

TEST_F(MpiFailureTest, ARankThatEndsEarly) {
  ExpectFailure(RunUnderMpirun("leave"), "barrier #2",
                "rank 1 of axis tp left the group before barrier #2 at ");
}

TEST_F(MpiFailureTest, AStoppedRank) {
  ExpectFailure(RunUnderMpirun("stop"), "all_reduce_sum #2",
                "rank 1 of axis tp did not join within 2000 ms");
}

TEST_F(MpiFailureTest, ARankStoppedInTheMiddle) {
  ExpectFailure(RunUnderMpirun("stop in the middle"), "all_reduce_sum #2", "of axis tp did not ");
}

TEST_F(MpiFailureTest, ARankStoppedInEachKindOfCollective) {
  const Outcome outcome = RunUnderMpirun("stop in each");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  for (const NamedCollective& collective : EveryCollective()) {
    const bool message =
        collective.kind == CollectiveKind::kSend || collective.kind == CollectiveKind::kRecv;
    for (const int rank : {0, 2}) {
      if (rank == 2 && message) continue;
      EXPECT_THAT(outcome.output,
                  HasSubstr(absl::StrCat(
                      "process ", rank, ": DEADLINE_EXCEEDED: [", CollectiveName(collective.kind),
                      " #", message ? 0 : 2, ", axis tp, rank ", rank,
                      " of 3] rank 1 of axis tp did not join within 2000 ms: ")));
    }
  }
}

// mpirun ends the others, and names the rank.
TEST_F(MpiFailureTest, ARankKilledInEachKindOfCollective) {
  for (int kind = 0; kind < static_cast<int>(EveryCollective().size()); ++kind) {
    const Outcome outcome = RunUnderMpirun("kill", kind);
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_THAT(outcome.output,
                AllOf(HasSubstr("process rank 1 "), HasSubstr("signal 9 (Killed)")));
  }
}

}  // namespace
}  // namespace strake::testing

// Under mpirun the arguments are a scenario, its argument and a mark.
int main(int argc, char** argv) {
  using namespace strake::testing;
  if (strake::DetectLaunchEnvironment() && argc == 4) {
    int argument = 0;
    if (!absl::SimpleAtoi(argv[2], &argument)) return 1;
    mark = argv[3];
    return RunScenario(argv[1], argument);
  }
  ::testing::InitGoogleTest(&argc, argv);
  own_path = std::filesystem::absolute(argv[0]);
  return RUN_ALL_TESTS();
}
