// The trainer as processes under mpirun: the same bits as a run on threads, and every way to end
// one.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "core/base/file_descriptor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "parallel/comm/testing/mpirun.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::MpirunCommand;
using testing::Program;
using testing::ProgramOptions;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::RunProgram;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::operator+;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kNumProcesses = 4;
constexpr char kEndless[] = "--steps=1000000";

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// The lines that the program wrote: its messages, and glog's. Open MPI and hwloc write there, too,
// for instance where a container has no sysfs.
std::string OwnLines(const std::string& err) {
  static const std::regex own("(error|warning|note): .*|[IWEF][0-9]{4,8} .*");
  std::istringstream lines(err);
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_match(line, own)) result += line + "\n";
  }
  return result;
}

// Empty for a process that has ended in the meantime.
std::string ReadProcFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// By rank: the processes under mpirun whose command line contains `word`.
std::map<int, pid_t> RunningRanks(const std::string& word) {
  static const std::regex rank("OMPI_COMM_WORLD_RANK=([0-9]+)");
  std::map<int, pid_t> ranks;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    if (ReadProcFile(entry.path() / "cmdline").find(word) == std::string::npos) continue;
    const std::string environment = ReadProcFile(entry.path() / "environ");
    std::smatch match;
    if (!std::regex_search(environment, match, rank)) continue;
    ranks[std::stoi(match[1])] = std::stoi(entry.path().filename());
  }
  return ranks;
}

nlohmann::json RecordWithoutPaths(const std::string& checkpoint) {
  nlohmann::json record = nlohmann::json::parse(ReadFile(checkpoint + "/run.json"));
  for (const char* key : {"comm", "out", "steps"}) EXPECT_EQ(record["config"].erase(key), 1);
  return record;
}

class MpiTrainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (MpirunCommand(1).empty()) GTEST_SKIP() << "there is no mpirun in PATH";
    static const ProgramResult probe =
        TrainUnderMpirun({"--tp=1", "--dp=1", "--steps=1", "--out=probe"}, /*num_processes=*/1);
    if (probe.err.find("was not installed") != std::string::npos) GTEST_SKIP() << probe.err;
    ASSERT_EQ(probe.exit_code, 0) << probe.err;
  }

  void TearDown() override {
    EXPECT_TRUE(RunningRanks(run_.path()).empty()) << "processes are left behind";
  }

  // --out is a whole path, so that RunningRanks() finds this test's processes.
  Flags RunFlags(const Flags& flags) const {
    return TinyRun::BaseFlags() +
           Flags{"--out=" + out_,    "--tp=2",           "--dp=2",
                 "--micro_batch=2",  "--global_batch=8", "--schedule=constant",
                 "--save_every=200", "--keep_last=0",    "--log_every=10"} +
           flags;
  }
  ProgramOptions Mpirun(int num_processes, const Flags& flags = {}) const {
    ProgramOptions options = run_.Here();
    options.launcher = MpirunCommand(num_processes) + flags;
    return options;
  }
  ProgramResult TrainUnderMpirun(const Flags& flags, int num_processes = kNumProcesses) const {
    return RunProgram("tools/train", RunFlags(Flags{"--comm=mpi"} + flags), Mpirun(num_processes));
  }
  ProgramResult TrainOnThreads(const Flags& flags) const {
    return RunProgram("tools/train", RunFlags(flags), run_.Here());
  }

  // The step of the last line of metrics.jsonl.
  int64_t LastStep() const { return TimelessMetrics(out_).back().at("step"); }
  std::string Checkpoint(const std::string& out, int64_t step) const {
    return out + "/step-" + std::to_string(step);
  }

  // Expects in `out_` at `step` the same files as from the same run on threads without
  // interruption.
  void ExpectSameAsOnThreads(const Flags& flags, int64_t step) {
    const std::string whole = run_ / "whole";
    const ProgramResult threads =
        TrainOnThreads(flags + Flags{"--steps=" + std::to_string(step), "--out=" + whole});
    ASSERT_EQ(threads.exit_code, 0) << threads.err;
    for (const char* file : {"config.json", "model.safetensors", "optimizer.safetensors"}) {
      const std::string name = std::string("/") + file;
      EXPECT_TRUE(ReadFile(Checkpoint(out_, step) + name) ==
                  ReadFile(Checkpoint(whole, step) + name))
          << name;
    }
    EXPECT_EQ(RecordWithoutPaths(Checkpoint(out_, step)),
              RecordWithoutPaths(Checkpoint(whole, step)));
    EXPECT_EQ(TimelessMetrics(out_), TimelessMetrics(whole));
    std::filesystem::remove_all(whole);
  }

  // Resumes a run, however it ended, from its last checkpoint, as processes or on threads.
  void ExpectGoesOn(const Flags& flags, int64_t from, bool under_mpirun) {
    const int64_t to = from + 10;
    const Flags some_steps = flags + Flags{"--steps=" + std::to_string(to)};
    const ProgramResult resumed =
        under_mpirun ? TrainUnderMpirun(some_steps) : TrainOnThreads(some_steps);
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("resumed at step " + std::to_string(from)));
    for (const auto& entry : std::filesystem::directory_iterator(out_)) {
      EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
    }
  }

  void ExpectSavedLastStep() const {
    EXPECT_TRUE(std::filesystem::exists(Checkpoint(out_, LastStep()) + "/run.json"));
  }

  // Kills rank 1.
  void ExpectAKilledProcessEndsAll(const Flags& flags) {
    Program program("tools/train", RunFlags(flags + Flags{"--comm=mpi", kEndless}),
                    Mpirun(kNumProcesses));
    ASSERT_TRUE(program.WaitForOutput("step 100  saved "));
    const auto before = ReadTree(Checkpoint(out_, 50));
    kill(RunningRanks(run_.path()).at(1), SIGKILL);
    const ProgramResult result = program.Wait();
    EXPECT_NE(result.exit_code, 0);
    EXPECT_THAT(result.err, AllOf(HasSubstr("process rank 1 "), HasSubstr("signal 9 (Killed)")));
    EXPECT_TRUE(ReadTree(Checkpoint(out_, 50)) == before);
    const ProgramResult again = TrainUnderMpirun(flags + Flags{"--steps=51"});
    std::smatch match;
    ASSERT_TRUE(std::regex_search(again.out, match, std::regex("resumed at step ([0-9]+)")))
        << again.out << again.err;
    const int64_t step = std::stoi(match[1]);
    EXPECT_EQ(step % 50, 0);
    ExpectGoesOn(flags, step, /*under_mpirun=*/true);
    ExpectSameAsOnThreads(flags, step + 10);
  }

  // Stops rank 1, which errors name as `name`, a regular expression.
  void ExpectAStoppedProcessIsNamed(const Flags& layout, const std::string& name) {
    const Flags flags = layout + Flags{"--save_every=50", "--comm_timeout=5"};
    Program program("tools/train", RunFlags(flags + Flags{"--comm=mpi", kEndless}),
                    Mpirun(kNumProcesses));
    ASSERT_TRUE(program.WaitForOutput("step 50  saved "));
    const auto before = ReadTree(Checkpoint(out_, 50));
    kill(RunningRanks(run_.path()).at(1), SIGSTOP);
    const ProgramResult result = program.Wait();
    EXPECT_EQ(result.exit_code, 1);
    const std::regex cause(
        R"(error: (step [0-9]+: )?\[[a-z_]+ #[0-9]+, axis [a-z]+( [01]->[01])?, rank [01] of 2\] )"
        "(" +
        name + R"() did not (join|go on) within 5000 ms: rank [01] waits in [a-z_]+ #[0-9]+)");
    const auto first = std::sregex_iterator(result.err.begin(), result.err.end(), cause);
    EXPECT_GE(std::distance(first, std::sregex_iterator()), kNumProcesses - 1) << result.err;
    EXPECT_TRUE(ReadTree(Checkpoint(out_, 50)) == before);
  }

  // Expects a stop on request, with everything saved.
  void ExpectStopped(const ProgramResult& result) const {
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_EQ(Count(result.err, "error: "), 0) << result.err;
    EXPECT_THAT(result.out,
                HasSubstr("stopped by a signal after step " + std::to_string(LastStep()) + ";"));
    ExpectSavedLastStep();
  }

  const TinyRun run_;
  const std::string out_ = run_ / "run";
};

TEST_F(MpiTrainTest, TrainsToTheBitsOfThreadsAndOneProcessPrints) {
  for (const Flags& layout : std::vector<Flags>{
           {"--zero=0", "--model=./gpt2.json"},
           {"--cp=2", "--dp=1", "--zero=1", "--sequence_parallel"},
           {"--zero=2", "--grad_reduce_dtype=bf16", "--model=./gpt2.json", "--sequence_parallel"},
           {"--pp=2", "--dp=1", "--zero=0", "--model=./llama_of_two.json", "--sequence_parallel"},
           {"--pp=2", "--tp=1", "--zero=1", "--model=./gpt2_of_two.json",
            "--pp_schedule=zero_bubble"},
       }) {
    SCOPED_TRACE(layout[0]);
    const Flags flags =
        layout + Flags{"--save_every=2", "--eval_every=2", "--eval_batches=3", "--sample_every=3"};
    const ProgramResult result = TrainUnderMpirun(flags + Flags{"--steps=4"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(OwnLines(result.err), "");
    for (const char* line : {"model  ", "layout  ", "step 4  saved ", "step 4  validation loss "}) {
      EXPECT_EQ(Count(result.out, line), 1) << line << " in " << result.out;
    }
    ExpectSameAsOnThreads(flags, 4);
    std::filesystem::remove_all(out_);
  }
}

TEST_F(MpiTrainTest, TracesAllProcesses) {
  const ProgramResult result = TrainUnderMpirun({"--steps=4", "--trace_steps=2..3"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string path = out_ + "/trace/steps_2-3.json";
  EXPECT_THAT(result.out + result.err, HasSubstr("the trace is " + path));
  std::map<int, std::vector<std::string>> steps;  // by process, from 1
  const nlohmann::json trace = nlohmann::json::parse(ReadFile(path));
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    if (event.value("cat", "") == "step") steps[event.at("pid")].push_back(event.at("name"));
  }
  const std::vector<std::string> both = {"step 2", "step 3"};
  EXPECT_THAT(steps, ::testing::ElementsAre(::testing::Pair(1, both), ::testing::Pair(2, both),
                                            ::testing::Pair(3, both), ::testing::Pair(4, both)));
  ExpectSameAsOnThreads({}, 4);
}

// mpirun passes on SIGUSR1, and continues to wait.
TEST_F(MpiTrainTest, SigusrToMpirunSavesAndExitsWith3) {
  const Flags flags = {"--zero=1", "--sequence_parallel"};
  Program program("tools/train", RunFlags(flags + Flags{"--comm=mpi", kEndless}),
                  Mpirun(kNumProcesses));
  ASSERT_TRUE(program.WaitForOutput("10/1000000"));
  program.Send(SIGUSR1);
  ExpectStopped(program.Wait());
  const int64_t step = LastStep();
  ExpectGoesOn(flags, step, /*under_mpirun=*/true);
  ExpectSameAsOnThreads(flags, step + 10);
  // And under another layout.
  ExpectGoesOn({"--tp=1", "--dp=1", "--zero=0"}, step + 10, /*under_mpirun=*/false);
}

TEST_F(MpiTrainTest, SigtermToOneProcessStopsAll) {
  Program program("tools/train", RunFlags({"--comm=mpi", kEndless}), Mpirun(kNumProcesses));
  ASSERT_TRUE(program.WaitForOutput("10/1000000"));
  const auto ranks = RunningRanks(run_.path());
  ASSERT_EQ(ranks.size(), kNumProcesses);
  kill(ranks.at(2), SIGTERM);
  ExpectStopped(program.Wait());
}

bool HasOpen(pid_t process, const std::string& file) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(file);
  const std::string files = "/proc/" + std::to_string(process) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(files, error)) {
    if (std::filesystem::read_symlink(entry.path(), error) == path) return true;
  }
  return false;
}

// The first rank waits for the lock of the folder that it fills, and the others for the first.
TEST_F(MpiTrainTest, SigtermToOneProcessStopsThePreparationOfText) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\": \"plank " + std::to_string(i) + "\"}\n";
  testing::WriteFile(run_ / "docs.jsonl", lines);
  const Flags flags = {"--train_data=docs.jsonl", "--steps=2"};
  ASSERT_EQ(TrainOnThreads(flags).exit_code, 0);
  const std::string prepared =
      std::filesystem::directory_iterator(run_ / "data_cache")->path().string();
  const std::string lock = prepared + ".unfinished/lock";
  std::filesystem::remove_all(out_);
  std::filesystem::rename(prepared, prepared + ".unfinished");
  testing::WriteFile(lock, "");
  const FileDescriptor held(open(lock.c_str(), O_RDWR));
  ASSERT_EQ(flock(held.get(), LOCK_EX), 0);

  Program program("tools/train", RunFlags(flags + Flags{"--comm=mpi"}), Mpirun(kNumProcesses));
  std::map<int, pid_t> ranks;
  const auto waits = [&] { return ranks.size() == kNumProcesses && HasOpen(ranks.at(0), lock); };
  for (int i = 0; i < 3000 && !waits(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ranks = RunningRanks(run_.path());
  }
  ASSERT_TRUE(waits());
  kill(ranks.at(2), SIGTERM);
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_EQ(Count(result.err, "error: "), 0) << result.err;
  EXPECT_EQ(Count(result.out, "stopped by a signal while text was prepared"), 1) << result.out;
  EXPECT_FALSE(std::filesystem::exists(out_));
}

// mpirun waits before it passes SIGTERM on, waits as long again before it kills, and exits with 1.
// It reads no output meanwhile: a run that prints more than a terminal buffers would hang.
TEST_F(MpiTrainTest, SigtermToMpirunSaves) {
  const Flags quiet = {"--comm=mpi", kEndless, "--log_every=0", "--save_every=0"};
  Program program("tools/train", RunFlags(quiet),
                  Mpirun(kNumProcesses, {"--mca", "odls_base_sigkill_timeout", "10"}));
  ASSERT_TRUE(program.WaitForOutput("out   "));
  program.Send(SIGTERM);
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(Count(result.err, "error: "), 0) << result.err;
  ExpectSavedLastStep();
  ExpectGoesOn({"--tp=2", "--dp=1"}, LastStep(), /*under_mpirun=*/false);
}

TEST_F(MpiTrainTest, AKilledProcessEndsAllAndNothingSavedIsLost) {
  ExpectAKilledProcessEndsAll({"--zero=2", "--save_every=50"});
}

TEST_F(MpiTrainTest, AKilledStageEndsAllAndNothingSavedIsLost) {
  ExpectAKilledProcessEndsAll({"--pp=2", "--tp=1", "--zero=1", "--save_every=50",
                               "--model=./gpt2_of_two.json", "--pp_schedule=zero_bubble"});
}

TEST_F(MpiTrainTest, AStoppedProcessIsMissedAndNamed) {
  ExpectAStoppedProcessIsNamed({}, "rank 1 of axis tp|rank 0 of axis dp");
}

// It is stage 1, the sender of gradients and the receiver of activations.
TEST_F(MpiTrainTest, AStoppedStageIsMissedAndNamed) {
  ExpectAStoppedProcessIsNamed(
      {"--pp=2", "--tp=1", "--model=./llama_of_two.json"},
      "rank 1 of axis pp( 0->1)?|rank 0 of axis pp 1->0|rank 0 of axis dp");
}

// Expects one line, and no new files.
void ExpectOneError(const ProgramResult& result, const std::vector<std::string>& parts,
                    const std::string& out) {
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(Count(result.err, "error: "), 1) << result.err;
  for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(MpiTrainTest, MistakesAreToldOnce) {
  ExpectOneError(TrainUnderMpirun({}, /*num_processes=*/3),
                 {"--tp=2 times --dp=2 are 4 ranks, but 3 processes were started"}, out_);
  ExpectOneError(RunProgram("tools/train", RunFlags({}), Mpirun(kNumProcesses)),
                 {"OMPI_COMM_WORLD_RANK is set", "give --comm=mpi"}, out_);
  ExpectOneError(TrainUnderMpirun({"--train_data=nowhere.txt"}), {"--train_data: ", "nowhere.txt"},
                 out_);
}

// On a cluster a machine may lack a file, or have a different one.
TEST_F(MpiTrainTest, TheMistakeOfOneProcessIsTold) {
  testing::WriteFile(run_ / "other.txt", std::string(1000, 'x'));
  const auto train = [&](const std::string& flag_of_rank_3) {
    ProgramOptions options = Mpirun(kNumProcesses);
    options.launcher =
        options.launcher + Flags{"sh", "-c",
                                 "[ $OMPI_COMM_WORLD_RANK = 3 ] && exec \"$0\" \"$@\" " +
                                     flag_of_rank_3 + "; exec \"$0\" \"$@\""};
    return RunProgram("tools/train", RunFlags({"--comm=mpi"}), options);
  };
  ExpectOneError(train("--model=nowhere.json"), {"nowhere.json"}, out_);
  ExpectOneError(train("--train_data=other.txt"),
                 {"rank 3 has the settings of another run than rank 0: train_data is "}, out_);
  ExpectOneError(train("--lr=0.5"),
                 {"rank 3 has the settings of another run", "lr is 0.003 there, 0.5 here"}, out_);
  ExpectOneError(train("--trace_steps=1..2"), {R"(trace_steps is "0..0" there, "1..2" here)"},
                 out_);
}

}  // namespace
}  // namespace strake
