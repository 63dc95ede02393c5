// Ranks that are processes: this binary starts itself again, once per rank, with its task in the
// environment. NCCL is the contract library. Any failure must end within the timeout, with a
// one-sentence error.
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "parallel/comm/testing/communicator_suite.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"

namespace strake::testing {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kScenario[] = "STRAKE_NCCL_SCENARIO";
constexpr char kMissing[] = "missing";
// The first where the test waits for the timeout.
constexpr std::chrono::milliseconds kTimeout(4000), kLongTimeout(60000);

// --- In a rank. ---

absl::Status EveryCollectiveWorks(Communicator& comm) {
  for (const NamedCollective& collective : EveryCollective()) {
    const bool message =
        collective.kind == CollectiveKind::kSend || collective.kind == CollectiveKind::kRecv;
    if (message) continue;
    if (const absl::Status status = collective.call(comm); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// A collective on the GPU that the other ranks do not call.
absl::Status WaitOnTheGpu(Communicator& comm) {
  auto stream = CudaOwnStream::Create();
  auto memory = CudaMemory::Allocate(16);
  if (!stream.ok() || !memory.ok()) return absl::InternalError("no emulated GPU");
  comm.BindCudaStream(stream->get());
  const Tensor x(memory->data(), DType::kF32, {4}, Device::kCuda);
  const absl::Status status = comm.AllReduceSum(x).Wait().status();
  return status.ok() ? comm.WaitForStream(stream->get()) : status;
}

absl::Status RunScenario(const std::string& name) {
  SetNcclBehavior({.polls_in_progress = 2, .own_thread = true, .start_alone = true});
  const auto rendezvous = NcclRendezvousFromEnvironment();
  if (!rendezvous.ok()) return rendezvous.status();
  const auto timeout = name == kMissing || name == "stop" ? kTimeout : kLongTimeout;
  auto world = CreateNcclWorld(*rendezvous, {.axis = "dp", .timeout = timeout}, ContractNccl());
  if (!world.ok()) return world.status();
  Communicator& comm = **world;
  const bool faulty = comm.rank() == 1;
  if (name == "works" || name == kMissing) return EveryCollectiveWorks(comm);
  if (const absl::Status status = comm.Barrier(); !status.ok()) return status;
  if (name == "leave") return faulty ? absl::OkStatus() : comm.Barrier();
  if (faulty && name == "kill") raise(SIGKILL);
  if (faulty && name == "stop") raise(SIGSTOP);
  return comm.rank() == 2 ? comm.Barrier() : WaitOnTheGpu(comm);
}

int Main(const std::string& name) {
  absl::Status status = RunScenario(name);
  for (const std::string& misuse : NcclMisuses()) status.Update(absl::InternalError(misuse));
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

// --- In the test. ---

using Environment = std::map<std::string, std::string>;

struct Outcome {
  std::string output;
  int status = 0;
};

class Processes {
 public:
  // A port that was free a moment ago.
  Processes() {
    int port = 0;
    EXPECT_TRUE(ListenAt("localhost", &port).ok());
    port_ = absl::StrCat(port);
  }
  const std::string& port() const { return port_; }

  void Start(const std::string& scenario, int rank, int size, const Environment& changes = {}) {
    Environment environment = {{kScenario, scenario},
                               {"RANK", absl::StrCat(rank)},
                               {"WORLD_SIZE", absl::StrCat(size)},
                               {"MASTER_ADDR", "localhost"},
                               {"MASTER_PORT", port_}};
    for (const auto& [name, value] : changes) environment[name] = value;
    const std::string path = OutputPath(pids_.size());
    const pid_t pid = fork();
    if (pid == 0) {
      for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
      if (std::freopen(path.c_str(), "w", stderr) == nullptr) _exit(127);
      execl("/proc/self/exe", "rank", nullptr);
      _exit(127);
    }
    pids_.push_back(pid);
    statuses_.push_back(0);
  }

  // Waits for one. Fails when it takes long.
  Outcome WaitFor(size_t i) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (pids_[i] > 0 && waitpid(pids_[i], &statuses_[i], WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > limit) {
        ADD_FAILURE() << "process " << i << " hangs";
        kill(pids_[i], SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    pids_[i] = 0;
    std::ifstream file(OutputPath(i));
    return {.output = std::string(std::istreambuf_iterator<char>(file), {}),
            .status = statuses_[i]};
  }

  // Waits for all, and kills those that are stopped at the end.
  std::vector<Outcome> Wait(const std::vector<int>& stopped = {}) {
    std::vector<Outcome> outcomes(pids_.size());
    for (size_t i = 0; i < pids_.size(); ++i) {
      if (std::count(stopped.begin(), stopped.end(), i) == 0) outcomes[i] = WaitFor(i);
    }
    for (const int i : stopped) {
      kill(pids_[i], SIGKILL);
      outcomes[i] = WaitFor(i);
    }
    return outcomes;
  }

 private:
  std::string OutputPath(size_t i) const {
    return absl::StrCat(::testing::TempDir(), "/nccl_process_", getpid(), "_", port_, "_", i);
  }

  std::string port_;
  std::vector<pid_t> pids_;  // 0 once it has ended
  std::vector<int> statuses_;
};

TEST(NcclProcessTest, MeetAndWork) {
  Processes processes;
  for (const int rank : {2, 1, 0}) processes.Start("works", rank, 3);
  for (const Outcome& outcome : processes.Wait()) {
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_EQ(outcome.output, "OK\n");
  }
}

// A socket that has sent `text` to the process that listens on the port.
FileDescriptor SayToPort(int port, const std::string& text) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int attempt = 0; attempt < 6000; ++attempt) {
    FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
      EXPECT_EQ(send(fd.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
      return fd;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "nobody listens";
  return FileDescriptor(-1);
}

TEST(NcclProcessTest, StrangersAreTurnedAway) {
  Processes processes;
  processes.Start("works", 0, 2);
  const int port = std::atoi(processes.port().c_str());
  const FileDescriptor browser = SayToPort(port, "GET / HTTP/1.1\r\n\r\n");
  const FileDescriptor silent = SayToPort(port, "");
  processes.Start("works", 1, 2);
  for (const Outcome& outcome : processes.Wait()) {
    EXPECT_THAT(outcome.output, EndsWith("OK\n"));
  }
}

TEST(NcclProcessTest, APeerThatIsKilledInACollectiveIsMissedAtOnce) {
  Processes processes;
  for (const int rank : {0, 1, 2}) processes.Start("kill", rank, 3);
  const auto outcomes = processes.Wait();
  for (const int rank : {0, 2}) {
    EXPECT_THAT(outcomes[rank].output, HasSubstr("rank 1 of all 3 ended without a word"));
  }
}

TEST(NcclProcessTest, APeerThatHangsIsMissedAfterTheTimeout) {
  Processes processes;
  for (const int rank : {0, 1, 2}) processes.Start("stop", rank, 3);
  const auto outcomes = processes.Wait(/*stopped=*/{1});
  for (const int rank : {0, 2}) {
    EXPECT_THAT(outcomes[rank].output,
                AllOf(HasSubstr("DEADLINE_EXCEEDED"), HasSubstr(" of axis dp did not join within"),
                      HasSubstr("4000 ms: rank ")));
  }
}

TEST(NcclProcessTest, APeerThatLeavesIsMissedAtOnce) {
  Processes processes;
  for (const int rank : {0, 1}) processes.Start("leave", rank, 2);
  EXPECT_THAT(processes.Wait()[0].output,
              HasSubstr("rank 1 of axis dp left the group before barrier #1 at "));
}

TEST(NcclProcessTest, APeerThatNeverComesIsNamed) {
  Processes processes;
  for (const int rank : {0, 1}) processes.Start(kMissing, rank, 3);
  for (const Outcome& outcome : processes.Wait()) {
    EXPECT_THAT(outcome.output, HasSubstr("rank 2 of 3 did not come to rank 0 at localhost:"));
    EXPECT_THAT(outcome.output, HasSubstr(" within 4000 ms"));
  }
}

TEST(NcclProcessTest, RankZeroThatNeverComesIsNamed) {
  Processes processes;
  processes.Start(kMissing, 1, 2);
  EXPECT_THAT(processes.Wait()[0].output,
              AllOf(HasSubstr("rank 0 at localhost:"), HasSubstr(" could not be reached within "),
                    HasSubstr("the same MASTER_ADDR and MASTER_PORT?")));
}

// The right ranks may still come: rank 0 waits for them.
TEST(NcclProcessTest, AnotherWorldSizeIsNamedOnBothSides) {
  Processes processes;
  processes.Start("works", 0, 2);
  processes.Start("works", 1, 3);
  constexpr char kError[] = "rank 1 was started with WORLD_SIZE=3, and rank 0 with WORLD_SIZE=2";
  EXPECT_THAT(processes.WaitFor(1).output, HasSubstr(kError));
  processes.Start("works", 1, 2);
  const auto outcomes = processes.Wait();
  EXPECT_THAT(outcomes[0].output, AllOf(HasSubstr(kError), EndsWith("OK\n")));
  EXPECT_EQ(outcomes[2].output, "OK\n");
}

constexpr char kSecret[] = "correct horse battery staple";

TEST(NcclProcessTest, RanksWithTheSameSecretMeet) {
  Processes processes;
  for (const int rank : {2, 1, 0}) {
    processes.Start("works", rank, 3, {{"STRAKE_COMM_SECRET", kSecret}});
  }
  for (const Outcome& outcome : processes.Wait()) EXPECT_EQ(outcome.output, "OK\n");
}

TEST(NcclProcessTest, AnotherSecretOrNoneIsNamedOnBothSides) {
  Processes processes;
  processes.Start("works", 0, 2, {{"STRAKE_COMM_SECRET", kSecret}});
  processes.Start("works", 1, 2, {{"STRAKE_COMM_SECRET", "battery staple correct horse"}});
  processes.Start("works", 1, 2);
  constexpr char kOther[] = "[nccl] rank 1 has another secret than rank 0";
  constexpr char kNone[] =
      "[nccl] rank 0 asks for a secret, and rank 1 has none: give rank 1 the same "
      "STRAKE_COMM_SECRET or STRAKE_COMM_SECRET_FILE";
  EXPECT_THAT(processes.WaitFor(1).output, HasSubstr(kOther));
  EXPECT_THAT(processes.WaitFor(2).output, HasSubstr(kNone));
  processes.Start("works", 1, 2, {{"STRAKE_COMM_SECRET", kSecret}});
  const auto outcomes = processes.Wait();
  EXPECT_THAT(outcomes[0].output, AllOf(HasSubstr(kOther), HasSubstr(kNone), EndsWith("OK\n")));
  EXPECT_EQ(outcomes[3].output, "OK\n");
  for (const Outcome& outcome : outcomes) EXPECT_THAT(outcome.output, Not(HasSubstr("staple")));
}

TEST(NcclProcessTest, APortInUseAndAnUnknownHostAreNamed) {
  int port = 0;
  const auto listeners = ListenAt("localhost", &port);
  Processes processes;
  processes.Start("works", 0, 1, {{"MASTER_PORT", absl::StrCat(port)}});
  processes.Start("works", 1, 2, {{"MASTER_ADDR", "no.such.host.invalid"}});
  const auto outcomes = processes.Wait();
  EXPECT_THAT(outcomes[0].output, HasSubstr("Address already in use"));
  EXPECT_THAT(outcomes[1].output, HasSubstr("MASTER_ADDR=no.such.host.invalid is no known host"));
}

}  // namespace
}  // namespace strake::testing

int main(int argc, char** argv) {
  if (const char* scenario = std::getenv(strake::testing::kScenario)) {
    return strake::testing::Main(scenario);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
