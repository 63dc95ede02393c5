// The trace of a run, by rank: it holds what a dry run records, and changes nothing of the run.
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <latch>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/op_profile.h"
#include "core/base/status_macros.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "train/engine/step_record.h"
#include "train/run/trainer.h"

namespace strake {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr MeshVector kSingleRank = {1, 1, 1, 1};
constexpr MeshVector kFourRanks = {.dp = 2, .pp = 1, .cp = 1, .tp = 2};
constexpr int kMicroBatches = 3;

using Counts = std::map<std::string, int64_t>;

struct Slice {
  std::string name, category;
  int64_t begin, end;  // nanoseconds
  nlohmann::json args;
};

// The slices of a thread, in the order of the file.
using Row = std::vector<Slice>;
using Rank = std::map<std::string, Row>;  // by the thread's name
using Trace = std::map<int, Rank>;

int64_t Nanoseconds(const nlohmann::json& microseconds) {
  return std::llround(microseconds.get<double>() * 1000);
}

// Reads a trace; expects Chrome's format.
Trace ReadTrace(const std::string& path) {
  const auto json = ParseJson(testing::ReadFile(path), path);
  EXPECT_TRUE(json.ok()) << json.status();
  Trace trace;
  if (!json.ok()) return trace;
  std::map<std::pair<int, int>, std::string> threads;
  for (const nlohmann::json& event : json->at("traceEvents")) {
    const int pid = event.at("pid"), tid = event.at("tid"), rank = pid - 1;
    const nlohmann::json& args = event.at("args");
    const std::string name = event.at("name");
    if (event.at("ph") == "M") {
      EXPECT_THAT(name, ::testing::AnyOf("process_name", "thread_name"));
      const std::string value = args.at("name");
      if (name == "process_name") {
        EXPECT_EQ(value, absl::StrCat("rank ", rank));
        EXPECT_TRUE(trace.emplace(rank, Rank()).second);
      } else {
        EXPECT_TRUE(threads.emplace(std::pair(pid, tid), value).second);
      }
      continue;
    }
    EXPECT_EQ(event.at("ph"), "X");
    const int64_t begin = Nanoseconds(event.at("ts")), duration = Nanoseconds(event.at("dur"));
    EXPECT_GE(begin, 0);
    EXPECT_GE(duration, 0);
    trace.at(rank)[threads.at({pid, tid})].push_back(
        {name, event.at("cat"), begin, begin + duration, args});
  }
  return trace;
}

// Calls `visit` with the depth of each slice. Expects that each lies in the one before it that is
// open, or follows it.
template <typename Visit>
void WalkNested(const Row& row, const Visit& visit) {
  std::vector<const Slice*> open;
  for (const Slice& slice : row) {
    while (!open.empty() && open.back()->end <= slice.begin && open.back()->end < slice.end) {
      open.pop_back();
    }
    if (!open.empty()) {
      EXPECT_GE(slice.begin, open.back()->begin) << slice.name;
      EXPECT_LE(slice.end, open.back()->end) << slice.name << " in " << open.back()->name;
    }
    visit(slice, open.size());
    open.push_back(&slice);
  }
}

// The names of what each step consists of.
std::map<std::string, std::vector<std::string>> PartsOfSteps(const Row& row) {
  std::map<std::string, std::vector<std::string>> parts;
  std::string step;
  WalkNested(row, [&](const Slice& slice, size_t depth) {
    if (depth == 0) step = slice.name;
    if (depth == 1) parts[step].push_back(slice.name);
  });
  return parts;
}

std::string KeyOf(const std::string& op, const std::string& where) { return op + ", " + where; }

Counts RecordedCalls(const StepRecord& record) {
  Counts counts;
  for (const OpCall& call : record.calls) {
    counts[KeyOf(call.op, call.is_collective() ? call.axis : PassName(call.pass))] += call.times;
  }
  return counts;
}

// Ops that wait for collectives are times of a profile, and no calls.
bool IsCall(const Slice& slice) {
  static const std::set<std::string> waits = {"all_reduce", "reduce_scatter", "all_gather",
                                              "gradient_reduction"};
  return slice.category == "collective" || (slice.category == "op" && waits.count(slice.name) == 0);
}

Counts TracedCalls(const Row& row) {
  Counts counts;
  for (const Slice& slice : row) {
    const char* where = slice.category == "op" ? "pass" : "axis";
    if (IsCall(slice)) ++counts[KeyOf(slice.name, slice.args.at(where))];
  }
  return counts;
}

// Keeps losses, and what the run says.
struct Listener : TrainObserver {
  absl::Status OnWarning(const std::string& text) override {
    said.push_back("warning: " + text);
    return absl::OkStatus();
  }
  absl::Status OnNote(const std::string& text) override {
    said.push_back(text);
    return absl::OkStatus();
  }
  absl::Status OnStep(const StepMetrics& m) override {
    losses.push_back(m.loss);
    return absl::OkStatus();
  }
  std::vector<std::string> said;
  std::vector<double> losses;
};

// Six steps of three micro-batches of each rank, of which the third and fourth are traced.
class TracedRunTest : public ::testing::Test {
 protected:
  TracedRunTest() {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "plank " + std::to_string(i * i) + " of the hull\n";
    testing::WriteFile(directory_ / "text.txt", text);
    ModelConfig& model = options_.engine.model;
    model = *ModelPreset("llama-tiny");
    model.num_layers = 2;
    model.hidden_size = 16;
    model.num_heads = model.num_kv_heads = 2;
    model.head_dim = 8;
    model.intermediate_size = 32;
    options_.engine.seq_len = 8;
    options_.engine.micro_batch = 2;
    options_.train_files = {directory_ / "text.txt"};
    options_.schedule = {.lr = 0.01, .warmup_steps = 1, .total_steps = 6};
    options_.directory = directory_ / "run";
    options_.eval_every = options_.sample_every = options_.save_every = 0;
    options_.first_traced_step = 3;
    options_.last_traced_step = 4;
  }

  absl::Status Train(const MeshVector& sizes, const std::vector<TrainObserver*>& observers) {
    options_.global_batch = int64_t{2} * kMicroBatches * sizes.dp;
    return RunOnThreads(sizes, {}, [&](const Mesh& mesh) -> absl::Status {
      STRAKE_ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(options_, mesh, observers));
      return trainer->Run().status();
    });
  }
  std::string TracePath(const std::string& steps) const {
    return absl::StrCat(options_.directory, "/trace/steps_", steps, ".json");
  }

  const testing::TempDirectory directory_;
  TrainerOptions options_;
};

TEST_F(TracedRunTest, HoldsTheRecordedCallsOfEachRank) {
  for (const int zero : {0, 2}) {
    options_.directory = directory_ / absl::StrCat("zero", zero);
    options_.engine.gradients.zero = zero;
    options_.engine.sequence_parallel = zero > 0;
    ASSERT_TRUE(Train(kFourRanks, {}).ok());
    const Trace trace = ReadTrace(TracePath("3-4"));
    ASSERT_EQ(trace.size(), 4);
    for (const auto& [rank, rows] : trace) {
      ASSERT_EQ(rows.size(), 1) << "only the main thread works";
      const Row& row = rows.at("main");
      Counts twice;
      for (const auto& [call, count] :
           RecordedCalls(RecordStep(options_.engine, kFourRanks, rank, kMicroBatches))) {
        twice[call] = 2 * count;
      }
      EXPECT_GT(twice.size(), 10);
      EXPECT_EQ(TracedCalls(row), twice) << "rank " << rank;
    }
  }
}

// No time of a step is outside these parts but that between two of them.
TEST_F(TracedRunTest, PartsCoverTheSteps) {
  for (const MeshVector& sizes : {kSingleRank, kFourRanks}) {
    options_.directory += "x";
    ASSERT_TRUE(Train(sizes, {}).ok());
    std::vector<std::string> parts = {"count targets"};
    for (int i = 0; i < kMicroBatches; ++i) {
      for (const char* part : {"load batch", "upload", "forward", "backward"}) {
        parts.push_back(part);
      }
    }
    parts.insert(parts.begin() + 3, "gradients");  // they are cleared
    for (const char* part : {"sum gradients", "update", "agree", "log", "save", "note"}) {
      parts.push_back(part);
    }
    for (const auto& [rank, rows] : ReadTrace(TracePath("3-4"))) {
      EXPECT_THAT(PartsOfSteps(rows.at("main")),
                  ElementsAre(std::pair("step 3", parts), std::pair("step 4", parts)));
    }
  }
}

TEST_F(TracedRunTest, LayersHoldTheirOps) {
  ASSERT_TRUE(Train(kSingleRank, {}).ok());
  std::map<std::string, int> matmuls;  // by the layers around them
  std::vector<std::string> open;
  const Trace trace = ReadTrace(TracePath("3-4"));
  WalkNested(trace.at(0).at("main"), [&](const Slice& slice, size_t depth) {
    open.resize(depth);
    open.push_back(slice.name);
    if (slice.name == "matmul") ++matmuls[absl::StrCat(open[1], "/", open[2], "/", open[3])];
  });
  EXPECT_THAT(matmuls, Contains(std::pair("forward/block 1/mlp", 2 * 2 * kMicroBatches)));
  EXPECT_THAT(matmuls, Contains(std::pair("backward/block 0/attention", 2 * 4 * kMicroBatches)));
}

TEST_F(TracedRunTest, ChangesNoBit) {
  for (const MeshVector& sizes : {kSingleRank, kFourRanks}) {
    const std::string traced = directory_ / absl::StrCat("traced", sizes.dp);
    const std::string plain = directory_ / absl::StrCat("plain", sizes.dp);
    Listener of_traced, of_plain;
    options_.directory = traced;
    ASSERT_TRUE(Train(sizes, {&of_traced}).ok());
    EXPECT_THAT(of_traced.said, Contains(HasSubstr("the trace is " + TracePath("3-4"))));
    options_.directory = plain;
    const int64_t last = std::exchange(options_.last_traced_step, 0);
    const int64_t first = std::exchange(options_.first_traced_step, 0);
    ASSERT_TRUE(Train(sizes, {&of_plain}).ok());
    options_.first_traced_step = first;
    options_.last_traced_step = last;
    EXPECT_EQ(of_traced.losses, of_plain.losses);
    for (const char* file : {"/step-6/model.safetensors", "/step-6/optimizer.safetensors"}) {
      EXPECT_TRUE(testing::ReadFile(traced + file) == testing::ReadFile(plain + file)) << file;
    }
    EXPECT_FALSE(std::filesystem::exists(plain + "/trace"));
  }
}

TEST_F(TracedRunTest, AStopAndAResumeWithinTheStepsTraceTheirParts) {
  options_.first_traced_step = 2;
  options_.last_traced_step = 5;
  Listener first, second, third;
  // The third step asks; all ranks stop after it.
  options_.stop_requested = [&] { return first.losses.size() >= 2; };
  ASSERT_TRUE(Train(kFourRanks, {&first}).ok());
  ASSERT_EQ(first.losses.size(), 3);
  options_.stop_requested = nullptr;
  ASSERT_TRUE(Train(kFourRanks, {&second}).ok());
  for (const auto& [steps, names] : std::map<std::string, std::vector<std::string>>{
           {"2-3", {"step 2", "step 3"}}, {"4-5", {"step 4", "step 5"}}}) {
    const Trace trace = ReadTrace(TracePath(steps));
    EXPECT_EQ(trace.size(), 4);
    for (const auto& [rank, rows] : trace) {
      std::vector<std::string> found;
      for (const auto& [step, parts] : PartsOfSteps(rows.at("main"))) found.push_back(step);
      EXPECT_EQ(found, names);
    }
  }
  // All of them are done.
  options_.schedule.total_steps = 7;
  ASSERT_TRUE(Train(kFourRanks, {&third}).ok());
  EXPECT_THAT(third.said,
              Contains("trace_steps=2..5: no trace, since the run goes on after step 6"));
}

// A checkpoint's writer begins within the third step and the fourth does not end before.
class WritesWithin : public Listener {
 public:
  absl::Status OnSave(int64_t step) override {
    if (step == 3) begun_.count_down();
    return absl::OkStatus();
  }
  absl::Status OnStep(const StepMetrics& m) override {
    if (m.step == 4) begun_.wait();
    return absl::OkStatus();
  }

 private:
  std::latch begun_{1};
};

TEST_F(TracedRunTest, ShowsTheWriterOfCheckpointsInARowOfItsOwn) {
  options_.save_every = 3;
  WritesWithin observer;
  ASSERT_TRUE(Train(kFourRanks, {&observer}).ok());
  const Trace trace = ReadTrace(TracePath("3-4"));
  EXPECT_EQ(trace.at(0).at("checkpoint writer").at(0).name, "write checkpoint");
  EXPECT_EQ(trace.at(1).count("checkpoint writer"), 0);
  WalkNested(trace.at(0).at("main"), [](const Slice&, size_t) {});
}

// The trace does not fit; the rest of the run does.
class NoRoomForTheTrace : public Listener {
 public:
  NoRoomForTheTrace() : before_signal_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
  }
  ~NoRoomForTheTrace() override {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, before_signal_);
  }
  absl::Status OnStep(const StepMetrics& m) override {
    const rlimit full = {.rlim_cur = 1000, .rlim_max = before_.rlim_max};
    if (m.step == 4) setrlimit(RLIMIT_FSIZE, &full);
    return Listener::OnStep(m);
  }
  absl::Status OnWarning(const std::string& text) override {
    setrlimit(RLIMIT_FSIZE, &before_);
    return Listener::OnWarning(text);
  }

 private:
  rlimit before_;
  const sighandler_t before_signal_;
};

TEST_F(TracedRunTest, GoesOnWithoutATraceThatCannotBeWritten) {
  NoRoomForTheTrace full;
  ASSERT_TRUE(Train(kFourRanks, {&full}).ok());
  EXPECT_THAT(full.said, ElementsAre(HasSubstr("warning: no trace: cannot write ")));
  EXPECT_EQ(full.losses.size(), 6);
  EXPECT_THAT(std::vector<std::filesystem::path>(
                  std::filesystem::directory_iterator(options_.directory + "/trace"), {}),
              IsEmpty());
  options_.directory = directory_ / "other";
  std::filesystem::create_directory(options_.directory);
  testing::WriteFile(options_.directory + "/trace", "in the way");
  Listener listener;
  ASSERT_TRUE(Train(kFourRanks, {&listener}).ok());
  EXPECT_THAT(listener.said, Contains(HasSubstr("warning: no trace: cannot ")));
  EXPECT_EQ(listener.losses.size(), 6);
}

TEST_F(TracedRunTest, StepsThatTheRunHasNotAreErrors) {
  for (const auto& [first, last] :
       std::vector<std::pair<int64_t, int64_t>>{{3, 7}, {7, 7}, {0, 2}, {4, 3}, {-1, -1}, {3, 0}}) {
    options_.first_traced_step = first;
    options_.last_traced_step = last;
    EXPECT_EQ(Train(kSingleRank, {}).message(),
              absl::StrCat("trace_steps=", first, "..", last,
                           ": the run has the steps 1..6; choose among them"));
  }
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
}

}  // namespace
}  // namespace strake
