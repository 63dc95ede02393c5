// A run that was stopped or killed at any moment ends with the same bytes as one that was not.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/run_program.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::Losses;
using testing::Program;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::TimelessEvents;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Compares two runs: everything on disk, without the times.
void ExpectSameRun(const TinyRun& actual, const TinyRun& expected, int64_t step) {
  const std::string checkpoint = "run/step-" + std::to_string(step);
  const auto files = ReadTree(expected / checkpoint);
  EXPECT_EQ(files.size(), 8)
      << "config.json, model, optimizer, run.json, manifest, two files of the "
         "tokenizer, and the folder";
  // Not EXPECT_EQ of the maps: it would print the weights.
  for (const auto& [name, contents] : files) {
    EXPECT_TRUE(ReadFile(actual / (checkpoint + "/" + name)) == contents) << name;
  }
  EXPECT_EQ(TimelessMetrics(actual / "run"), TimelessMetrics(expected / "run"));
}

// The same of what they show to TensorBoard.
void ExpectSameEvents(const TinyRun& actual, const TinyRun& expected) {
  EXPECT_EQ(TimelessEvents(actual / "run"), TimelessEvents(expected / "run"));
}

bool HasCheckpoint(const TinyRun& run, int64_t step) {
  return std::filesystem::exists(run / ("run/step-" + std::to_string(step) + "/run.json"));
}

// 0 if there is none.
int64_t LastCheckpoint(const TinyRun& run) {
  int64_t last = 0;
  for (const auto& entry : std::filesystem::directory_iterator(run / "run")) {
    int64_t step = 0;
    if (std::sscanf(entry.path().filename().c_str(), "step-%" SCNd64, &step) != 1) continue;
    if (HasCheckpoint(run, step)) last = std::max(last, step);
  }
  return last;
}

struct Family {
  const char* name;
  Flags flags;
};

// Four ranks and two micro-batches.
Flags Sliced() {
  return {"--tp=2",   "--dp=2",          "--sequence_parallel",
          "--zero=1", "--micro_batch=1", "--global_batch=4"};
}

class ResumeTest : public ::testing::TestWithParam<Family> {};

TEST_P(ResumeTest, ContinuedInPiecesIsBitForBitTheWhole) {
  const Flags flags =
      GetParam().flags + Flags{"--steps=12",     "--save_every=3",   "--keep_last=0",
                               "--eval_every=2", "--eval_batches=2", "--sample_every=3",
                               "--tensorboard"};
  const TinyRun whole, pieces;
  ASSERT_EQ(whole.Train(flags).exit_code, 0);
  ASSERT_EQ(pieces.Train(flags).exit_code, 0);
  for (const int64_t kept : {9, 3, 6}) {
    for (int64_t step = kept + 1; step <= 12; ++step) {
      std::filesystem::remove_all(pieces / ("run/step-" + std::to_string(step)));
    }
    const ProgramResult resumed = pieces.Train(flags);
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr(", resumed at step " + std::to_string(kept)));
    for (const int64_t step : {3, 6, 9, 12}) ExpectSameRun(pieces, whole, step);
    ExpectSameEvents(pieces, whole);
  }
}

// The page's data of a run.
nlohmann::json ReportOf(const TinyRun& run, const std::string& name = "run/report.html") {
  const std::string page = ReadFile(run / name);
  const std::string begin = "id=\"data\">";
  const size_t from = page.find(begin) + begin.size();
  const auto data = nlohmann::json::parse(page.substr(from, page.find("</script>", from) - from));
  return data.at("runs").at(0);
}

// Calls and bytes by axis and collective.
std::map<std::string, std::pair<int64_t, int64_t>> SumsOf(const nlohmann::json& collectives) {
  std::map<std::string, std::pair<int64_t, int64_t>> sums;
  for (const auto& one : collectives) {
    auto& [calls, bytes] = sums[one.at("axis").get<std::string>() + one.at("collective").dump()];
    calls += one.at("calls").get<int64_t>();
    bytes += one.at("bytes").get<int64_t>();
  }
  return sums;
}

TEST(ReportTest, ShowsTheWholeRunAndHowItWentOn) {
  const TinyRun run;
  const Flags flags = Sliced() + Flags{"--eval_every=5", "--eval_batches=1", "--sample_every=5"};
  ASSERT_EQ(run.Train(flags + Flags{"--steps=6"}).exit_code, 0);
  // The trace is sent before step 8, which is not what a step communicates.
  ASSERT_EQ(run.Train(flags + Flags{"--steps=10", "--trace_steps=7..7"}).exit_code, 0);
  const nlohmann::json report = ReportOf(run);
  EXPECT_EQ(report.at("state"), "finished");
  EXPECT_EQ(report.at("step"), 10);
  EXPECT_EQ(report.at("config").at("tp"), 2);
  EXPECT_EQ(report.at("samples").size(), 3);  // of step 6, the last one then, too
  std::vector<std::string> events;
  for (const auto& event : report.at("events")) {
    if (event.at("kind") != "warning") events.push_back(event.at("kind"));
  }
  EXPECT_EQ(events,
            (std::vector<std::string>{"started", "finished", "resumed", "note", "finished"}));
  const auto counted = SumsOf(report.at("communicated"));
  EXPECT_GE(counted.size(), 3);
  EXPECT_EQ(counted, SumsOf(report.at("collectives")));
  EXPECT_EQ(report.at("ops_step"), 8);  // the second one after it went on
  for (const auto& op : report.at("ops")) {
    EXPECT_GE(op.at("limit"), op.at("op") == "matmul" ? 1e-9 : 0) << op;
    EXPECT_LE(op.at("seconds"), report.at("ops_seconds")) << op;
  }
  EXPECT_GT(report.at("ops").size(), 5);
  EXPECT_GT(report.at("observed_bytes"), report.at("memory").at(0).at("bytes"));
  std::vector<double> losses, logged;
  for (const auto& curve : report.at("curves")) {
    if (curve.at("name") == "training") losses = curve.at("values").get<std::vector<double>>();
  }
  for (const auto& line : testing::ReadMetrics(run / "run")) {
    if (line.contains("loss")) logged.push_back(line.at("loss"));
  }
  EXPECT_EQ(logged.size(), 10);
  EXPECT_EQ(losses, logged);
  // What the run kept, and what its log has.
  ASSERT_EQ(run.Run("tools/report", {"run", "--out=drawn.html"}).exit_code, 0);
  EXPECT_EQ(ReportOf(run, "drawn.html"), report);
}

TEST(OutTest, AFolderThatIsRefusedStaysAsItWas) {
  for (const std::string name :
       {"metrics.jsonl", "report.html", "report.jsonl", "tensorboard/events.out.tfevents.strake"}) {
    const TinyRun run;
    const std::filesystem::path file = run / "run/" + name;
    std::filesystem::create_directories(file.parent_path());
    WriteFile(file, "another's\n");
    const auto before = ReadTree(run / "run");
    const ProgramResult result = run.Train({"--tensorboard"});
    EXPECT_EQ(result.exit_code, 1) << name;
    EXPECT_THAT(result.err, HasSubstr("run/" + name + " is there, and is not of this run; move"));
    EXPECT_EQ(ReadTree(run / "run"), before) << name;
  }
}

TEST(ReportTest, ARunGoesOnWithoutAPage) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--steps=2"}).exit_code, 0);
  std::filesystem::remove(run / "run/report.html");
  std::filesystem::create_directories(run / "run/report.html/full");
  const ProgramResult result = run.Train({"--steps=4"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("warning: no report is written any more: "));
  EXPECT_TRUE(HasCheckpoint(run, 4));
}

INSTANTIATE_TEST_SUITE_P(
    Models, ResumeTest,
    ::testing::Values(Family{"Llama", {}}, Family{"Gpt2", {"--model=./gpt2.json"}},
                      Family{"Accumulated", {"--micro_batch=2", "--global_batch=6"}},
                      Family{"TwoThreads", {"--threads=2"}}, Family{"Sliced", Sliced()},
                      Family{"Bf16", {"--dtype=bf16"}},
                      Family{"Bf16Sliced", Sliced() + Flags{"--dtype=bf16"}},
                      Family{"Gpt2Sliced",
                             {"--model=./gpt2.json", "--tp=2", "--dp=3", "--zero=2",
                              "--micro_batch=1", "--global_batch=6"}},
                      Family{"InOrder", {"--shuffle=false", "--schedule=wsd", "--clip_norm=0"}}),
    [](const auto& info) { return std::string(info.param.name); });

// A run that the test interrupts.
Flags EndlessRun() { return {"--steps=1000000", "--schedule=constant", "--log_every=1"}; }

class StoppedRunTest : public ResumeTest {};

TEST_P(StoppedRunTest, SignalsFinishTheStepAndSave) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const TinyRun run;
    Program program("tools/train", TinyRun::BaseFlags() + EndlessRun() + GetParam().flags,
                    run.Here());
    ASSERT_TRUE(program.WaitForOutput("3/1000000"));
    program.Send(signal);
    const ProgramResult stopped = program.Wait();
    EXPECT_EQ(stopped.exit_code, 3) << stopped.err;
    EXPECT_EQ(stopped.err, "");
    EXPECT_THAT(stopped.out, HasSubstr("stopped by a signal after step "));
    const int64_t step = testing::ReadMetrics(run / "run").size();
    EXPECT_GE(step, 3);
    EXPECT_TRUE(HasCheckpoint(run, step));
  }
}

TEST_P(StoppedRunTest, GoesOnBitForBit) {
  Flags flags = EndlessRun() + GetParam().flags + Flags{"--sample_every=2", "--tensorboard"};
  const TinyRun whole, stopped;
  {
    Program program("tools/train", TinyRun::BaseFlags() + flags, stopped.Here());
    ASSERT_TRUE(program.WaitForOutput("2/1000000"));
    program.Send(SIGINT);
    ASSERT_EQ(program.Wait().exit_code, 3);
  }
  const int64_t step = LastCheckpoint(stopped) + 50;
  flags = flags + Flags{"--steps=" + std::to_string(step)};
  const ProgramResult resumed = stopped.Train(flags);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr(", resumed at step "));
  ASSERT_EQ(whole.Train(flags).exit_code, 0);
  ExpectSameRun(stopped, whole, step);
  ExpectSameEvents(stopped, whole);
}

std::string NameOf(const ::testing::TestParamInfo<Family>& info) { return info.param.name; }
const auto kOneAndMany = ::testing::Values(Family{"OneRank", {}}, Family{"Sliced", Sliced()});
INSTANTIATE_TEST_SUITE_P(Layouts, StoppedRunTest, kOneAndMany, NameOf);

// The base, in a folder of its own, is read again by each start.
TEST(AdapterRunTest, GoesOnBitForBitAfterAKill) {
  const TinyRun base;
  ASSERT_EQ(base.Train().exit_code, 0);
  for (const Flags& layout : {Flags{}, Sliced()}) {
    Flags flags = layout + EndlessRun() +
                  Flags{"--init_from=" + base / "run", "--lora_rank=2", "--save_every=2"};
    const TinyRun whole, killed;
    Program program("tools/train", TinyRun::BaseFlags() + flags, killed.Here());
    ASSERT_TRUE(program.WaitForOutput("5/1000000"));
    program.Send(SIGKILL);
    program.Wait();
    const int64_t step = LastCheckpoint(killed) + 20;
    EXPECT_GE(step, 22);
    flags = flags + Flags{"--steps=" + std::to_string(step)};
    const ProgramResult resumed = killed.Train(flags);
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr(", resumed at step "));
    ASSERT_EQ(whole.Train(flags).exit_code, 0);
    ExpectSameRun(killed, whole, step);
    const ProgramResult verified = killed.Run("tools/verify", {"run"});
    EXPECT_EQ(verified.exit_code, 0) << verified.err;
  }
}

// Each layout takes the adapters and their moments from the one before.
TEST(AdapterRunTest, GoesOnUnderOtherLayouts) {
  const TinyRun base;
  ASSERT_EQ(base.Train().exit_code, 0);
  const Flags flags = {"--init_from=" + base / "run", "--lora_rank=2", "--lr=0.05",
                       "--schedule=constant"};
  const TinyRun whole, moved;
  ASSERT_EQ(whole.Train(flags + Flags{"--steps=12"}).exit_code, 0);
  int64_t step = 0;
  for (const Flags& layout : {Sliced(), Flags{}, Flags{"--dp=4", "--zero=2", "--micro_batch=1"}}) {
    const Flags steps = {"--steps=" + std::to_string(step + 4)};
    const ProgramResult part = moved.Train(flags + layout + steps);
    ASSERT_EQ(part.exit_code, 0) << part.err;
    EXPECT_THAT(part.out, HasSubstr(step == 0 ? "" : ", resumed at step " + std::to_string(step)));
    step += 4;
  }
  const std::vector<double> expected = Losses(whole / "run"), actual = Losses(moved / "run");
  ASSERT_EQ(actual.size(), expected.size());
  // Rounding, which 12 steps of a large rate magnify.
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-4) << i;
}

// With the options of run.json alone, also where it began from an adapter.
TEST(AdapterRunTest, OutAloneGoesOn) {
  const TinyRun run;
  ASSERT_EQ(run.Train().exit_code, 0);
  ASSERT_EQ(run.Train({"--init_from=run", "--lora_rank=2", "--out=lora"}).exit_code, 0);
  const ProgramResult begun = run.Train({"--init_from=lora", "--out=more"});
  ASSERT_EQ(begun.exit_code, 0) << begun.err;
  const ProgramResult resumed = run.Run("tools/train", {"--out=more", "--steps=10"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr(", resumed at step 8"));
  EXPECT_THAT(resumed.out, Not(HasSubstr("is not read")));
  EXPECT_TRUE(std::filesystem::exists(run / "more/step-10/adapter_model.safetensors"));
}

TEST(ExitZeroOnStopTest, ExitsWithZero) {
  const TinyRun run;
  Program program("tools/train", TinyRun::BaseFlags() + EndlessRun() + Flags{"--exit_zero_on_stop"},
                  run.Here());
  ASSERT_TRUE(program.WaitForOutput("2/1000000"));
  program.Send(SIGTERM);
  EXPECT_EQ(program.Wait().exit_code, 0);
}

// `train | head -1`: nobody reads what it prints any more.
TEST(ClosedPipeTest, TheRunGoesOnInSilence) {
  const TinyRun whole, run;
  ASSERT_EQ(whole.Train({"--log_every=1"}).exit_code, 0);
  testing::ProgramOptions options = run.Here();
  options.launcher = {"bash", "-o", "pipefail", "-c", "\"$0\" \"$@\" | head -1"};
  const ProgramResult result =
      testing::RunProgram("tools/train", TinyRun::BaseFlags() + Flags{"--log_every=1"}, options);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << result.out;
  ExpectSameRun(run, whole, 8);
}

TEST(VerifyTest, ReadsTheCheckpointsOfARun) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--save_every=4"}).exit_code, 0);
  const ProgramResult whole = run.Run("tools/verify", {"run"});
  EXPECT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_EQ(whole.out, "run/step-4: whole\nrun/step-8: whole\n");
  std::string weights = ReadFile(run / "run/step-4/model.safetensors");
  weights.back() ^= 1;
  WriteFile(run / "run/step-4/model.safetensors", weights);
  const ProgramResult damaged = run.Run("tools/verify", {"run/step-8", "run"});
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_EQ(damaged.out, "run/step-8: whole\nrun/step-8: whole\n");
  EXPECT_THAT(damaged.err, HasSubstr("error: run/step-4/model.safetensors: tensor \""));
  EXPECT_EQ(std::count(damaged.err.begin(), damaged.err.end(), '\n'), 1) << damaged.err;
  for (const auto& [arguments, error] : std::map<std::string, std::string>{
           {"nowhere", "nowhere: there is no such directory"}, {"--all", "unknown flag --all"}}) {
    const ProgramResult bad = run.Run("tools/verify", {arguments});
    EXPECT_EQ(bad.exit_code, 1);
    EXPECT_THAT(bad.err, HasSubstr(error));
  }
}

TEST(OutAloneTest, GoesOnWithTheRun) {
  const Flags flags = {"--save_every=4", "--keep_last=0"};
  const TinyRun whole, run;
  ASSERT_EQ(whole.Train(flags).exit_code, 0);
  ASSERT_EQ(run.Train(flags).exit_code, 0);
  std::filesystem::remove_all(run / "run/step-8");
  const ProgramResult resumed = run.Run("tools/train", {"--out=run"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("resumed at step 4"));
  ExpectSameRun(run, whole, 8);
  // From another folder the run's relative paths lead nowhere.
  std::filesystem::create_directory(run / "elsewhere");
  testing::ProgramOptions there = run.Here();
  there.directory += "/elsewhere";
  const ProgramResult lost = testing::RunProgram("tools/train", {"--out=../run"}, there);
  EXPECT_EQ(lost.exit_code, 1);
  EXPECT_THAT(lost.err, HasSubstr("the options are those of ../run/run.json, whose paths begin in "
                                  "the folder where that run was started"));
  // Another run begins with its weights.
  const ProgramResult tuned = run.Train({"--init_from=run", "--out=tuned"});
  EXPECT_EQ(tuned.exit_code, 0) << tuned.err;
}

TEST(SecondSignalTest, EndsTheRunAtOnce) {
  const TinyRun run;
  // A step takes seconds, so that the second signal arrives during it.
  const Flags slow = {"--global_batch=400000", "--steps=5", "--ops=reference"};
  Program program("tools/train", TinyRun::BaseFlags() + slow, run.Here());
  ASSERT_TRUE(program.WaitForCpuTime(0.5));
  program.Send(SIGINT);
  usleep(20000);
  program.Send(SIGTERM);  // a second SIGINT could merge with the first if that is still pending
  const ProgramResult result = program.Wait();
  EXPECT_THAT(result.exit_code, AnyOf(128 + SIGINT, 128 + SIGTERM));
  EXPECT_EQ(ReadFile(run / "run/metrics.jsonl"), "");
  EXPECT_EQ(LastCheckpoint(run), 0);
}

TEST(TensorBoardTest, ShowsWhatMetricsSay) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--eval_every=8", "--sample_every=8", "--tensorboard"}).exit_code, 0);
  const std::vector<std::string> events = TimelessEvents(run / "run");
  const std::vector<double> losses = Losses(run / "run");
  for (int i = 0; i < 8; ++i) {
    const std::string loss = absl::StrCat(i + 1, " train/loss ", static_cast<float>(losses[i]));
    EXPECT_THAT(events, Contains(loss));
  }
  const double val_loss = testing::ReadMetrics(run / "run").back().at("val_loss");
  EXPECT_THAT(events, Contains(absl::StrCat("8 validation/loss ", static_cast<float>(val_loss))));
  EXPECT_THAT(events.back(), StartsWith("8 sample **prompt**"));
}

TEST(TensorBoardTest, OutAloneGoesOnWithIt) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--tensorboard"}).exit_code, 0);
  const ProgramResult longer = run.Run("tools/train", {"--out=run", "--steps=9"});
  ASSERT_EQ(longer.exit_code, 0) << longer.err;
  EXPECT_THAT(TimelessEvents(run / "run"), Contains(StartsWith("9 train/loss ")));
  // One that begins later shows the steps from there.
  std::filesystem::remove_all(run / "run/tensorboard");
  const ProgramResult late = run.Run("tools/train", {"--out=run", "--steps=10"});
  EXPECT_THAT(late.out,
              HasSubstr("warning: run/tensorboard/events.out.tfevents.strake ends at step "
                        "0, before the checkpoint of step 9"));
  EXPECT_THAT(TimelessEvents(run / "run"), Contains(StartsWith("10 train/loss ")));
}

TEST(ResumeFlagTest, PathStartsANewFolder) {
  const TinyRun run;
  const Flags flags = {"--save_every=2", "--keep_last=0"};
  ASSERT_EQ(run.Train(flags).exit_code, 0);
  const ProgramResult branch = run.Train(flags + Flags{"--resume=run/step-4", "--out=branch"});
  ASSERT_EQ(branch.exit_code, 0) << branch.err;
  EXPECT_FALSE(std::filesystem::exists(run / "branch/step-4"));
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "config.json"}) {
    EXPECT_TRUE(ReadFile(run / (std::string("branch/step-8/") + file)) ==
                ReadFile(run / (std::string("run/step-8/") + file)))
        << file;
  }
  const auto metrics = TimelessMetrics(run / "run");
  EXPECT_EQ(TimelessMetrics(run / "branch"),
            std::vector<nlohmann::json>(metrics.begin() + 4, metrics.end()));
}

TEST(ResumeFlagTest, PathBehindTheLastCheckpointIsAnError) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--save_every=2"}).exit_code, 0);
  const auto before = ReadTree(run.path());
  const ProgramResult result = run.Train({"--save_every=2", "--resume=run/step-4"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("--resume=run/step-4 is at step 4"),
                                HasSubstr("a later checkpoint, of step 8")));
  EXPECT_TRUE(ReadTree(run.path()) == before);
}

TEST(ResumeFlagTest, NeverStartsAfreshOrFails) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--resume=never"}).exit_code, 0);
  const auto before = ReadTree(run.path());
  const ProgramResult again = run.Train({"--resume=never"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, AllOf(HasSubstr("--resume=never"), HasSubstr("run"), HasSubstr("step 8")));
  EXPECT_TRUE(ReadTree(run.path()) == before);
}

TEST(ResumeFlagTest, FinishedRunHasNothingToDo) {
  const TinyRun run;
  ASSERT_EQ(run.Train().exit_code, 0);
  auto before = ReadTree(run / "run");
  const ProgramResult again = run.Train();
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("nothing to do"));
  auto after = ReadTree(run / "run");
  // run.json records where the last process began.
  EXPECT_EQ(before.erase("run.json") + after.erase("run.json"), 2);
  EXPECT_TRUE(after == before);
}

TEST(ResumeMetricsTest, LinesBeyondTheCheckpointAreCut) {
  const Flags flags = {"--save_every=4", "--keep_last=0"};
  const TinyRun whole, cut;
  ASSERT_EQ(whole.Train(flags).exit_code, 0);
  ASSERT_EQ(cut.Train(flags).exit_code, 0);
  std::filesystem::remove_all(cut / "run/step-8");
  const std::string metrics = cut / "run/metrics.jsonl";
  WriteFile(metrics, ReadFile(metrics) + R"({"step":9,"loss":1})" + "\n" + R"({"step":1,"lo)");
  const ProgramResult resumed = cut.Train(flags);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  ExpectSameRun(cut, whole, 8);
}

// Makes a folder with a run of 8 steps, as if it had been killed after the checkpoint of step 4.
void MakeHalfRun(const TinyRun& run) {
  ASSERT_EQ(run.Train({"--save_every=4", "--keep_last=0"}).exit_code, 0);
  std::filesystem::remove_all(run / "run/step-8");
}

TEST(ChangesOnResumeTest, WhatIsNoPartOfTheRunMayChange) {
  const TinyRun whole;
  ASSERT_EQ(whole.Train().exit_code, 0);
  const std::vector<double> losses = Losses(whole / "run");
  for (const Flags& change : std::vector<Flags>{{"--threads=2"},
                                                {"--micro_batch=1", "--global_batch=4"},
                                                {"--micro_batch=2", "--global_batch=4"},
                                                {"--ops=reference"},
                                                {"--tp=2"},
                                                Sliced(),
                                                {"--dp=2", "--micro_batch=2"},
                                                {"--eval_every=1", "--eval_batches=1"},
                                                {"--sample_every=3"},
                                                {"--save_every=1"},
                                                {"--keep_last=1"},
                                                {"--log_every=1"}}) {
    SCOPED_TRACE(change[0]);
    const TinyRun run;
    MakeHalfRun(run);
    const ProgramResult resumed = run.Train(change);
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("resumed at step 4"));
    EXPECT_THAT(resumed.out, Not(HasSubstr("warning")));
    EXPECT_TRUE(HasCheckpoint(run, 8));
    const std::vector<double> resumed_losses = Losses(run / "run");
    ASSERT_EQ(resumed_losses.size(), 8);
    // Other kernels and orders of summation: f32 rounding, which four small steps hardly amplify.
    for (int i = 0; i < 8; ++i) EXPECT_NEAR(resumed_losses[i], losses[i], 1e-4) << i;
  }
}

TEST(ChangesOnResumeTest, OtherStepsWarn) {
  const TinyRun run;
  ASSERT_EQ(run.Train().exit_code, 0);
  const ProgramResult longer = run.Train({"--steps=10"});
  EXPECT_EQ(longer.exit_code, 0) << longer.err;
  EXPECT_THAT(longer.out, HasSubstr("warning: --steps was 8 and is 10"));
  EXPECT_EQ(Losses(run / "run").size(), 10);
  EXPECT_TRUE(HasCheckpoint(run, 10));
}

TEST(ChangesOnResumeTest, AnotherRunIsAnErrorThatListsEveryDifference) {
  const TinyRun run;
  MakeHalfRun(run);
  WriteFile(run / "other.txt", ReadFile(run / "text.txt") + "x");
  const auto before = ReadTree(run.path());
  struct Change {
    Flags flags;
    std::vector<std::string> differences;
  };
  for (const Change& change : std::vector<Change>{
           {{"--model=./gpt2.json"}, {"model.model_type is \"llama\" there, \"gpt2\" here"}},
           {{"--train_data=other.txt"}, {"train_data is "}},
           {{"--val_data=text.txt"}, {"train_data is "}},
           {{"--seed=2"}, {"seed is 1 there, 2 here"}},
           {{"--shuffle=false"}, {"shuffle is true there, false here"}},
           {{"--seq_len=16"}, {"seq_len is 8 there, 16 here"}},
           {{"--global_batch=8"}, {"global_batch is 4 there, 8 here"}},
           {{"--lr=0.5"}, {"lr is 0.003 there, 0.5 here"}},
           {{"--min_lr=0.001"}, {"min_lr is 0.0 there, 0.001 here"}},
           {{"--schedule=wsd"}, {"schedule is \"cosine\" there, \"wsd\" here"}},
           {{"--warmup_steps=3"}, {"warmup_steps is 2 there, 3 here"}},
           {{"--weight_decay=0"}, {"weight_decay is 0.1 there, 0.0 here"}},
           {{"--beta1=0.5"}, {"beta1 is 0.9 there, 0.5 here"}},
           {{"--beta2=0.5"}, {"beta2 is 0.95 there, 0.5 here"}},
           {{"--eps=0.5"}, {"eps is 1e-08 there, 0.5 here"}},
           {{"--clip_norm=2"}, {"clip_norm is 1.0 there, 2.0 here"}},
           {{"--seed=2", "--lr=0.5"}, {"seed is 1 there, 2 here", "lr is 0.003 there, 0.5 here"}},
       }) {
    SCOPED_TRACE(change.flags[0]);
    for (const Flags& resume : std::vector<Flags>{{}, {"--resume=run/step-4"}}) {
      const ProgramResult result = run.Train(change.flags + resume);
      EXPECT_EQ(result.exit_code, 1);
      EXPECT_THAT(result.err, HasSubstr("holds another run"));
      for (const std::string& difference : change.differences) {
        EXPECT_THAT(result.err, HasSubstr(difference));
      }
      EXPECT_TRUE(ReadTree(run.path()) == before);
    }
  }
}

TEST(CheckpointTest, KeepLastKeepsTheLast) {
  for (const auto& [keep, kept] : std::map<std::string, std::vector<int64_t>>{
           {"0", {2, 4, 6, 8, 9}}, {"1", {9}}, {"2", {8, 9}}, {"9", {2, 4, 6, 8, 9}}}) {
    const TinyRun run;
    ASSERT_EQ(run.Train({"--steps=9", "--save_every=2", "--keep_last=" + keep}).exit_code, 0);
    for (int64_t step = 1; step <= 9; ++step) {
      EXPECT_EQ(HasCheckpoint(run, step), std::count(kept.begin(), kept.end(), step) > 0)
          << "keep_last " << keep << ", step " << step;
    }
  }
}

TEST(CheckpointTest, SaveEveryZeroSavesTheLastStepAlone) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--save_every=0"}).exit_code, 0);
  for (int64_t step = 1; step <= 8; ++step) EXPECT_EQ(HasCheckpoint(run, step), step == 8);
}

TEST(LockTest, SecondProcessOnTheSameFolderFailsAtOnce) {
  const TinyRun run;
  Program first("tools/train", TinyRun::BaseFlags() + EndlessRun(), run.Here());
  ASSERT_TRUE(first.WaitForOutput("1/1000000"));
  const ProgramResult second = run.Train(EndlessRun());
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("run is in use: process "));
  first.Send(SIGINT);
  EXPECT_EQ(first.Wait().exit_code, 3);
  // The lock ended with the process.
  EXPECT_EQ(run.Train(EndlessRun() + Flags{"--steps=1"}).exit_code, 0);
}

TEST(DataOrderTest, AccumulationTakesTheSameSamples) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--out=whole", "--micro_batch=4", "--global_batch=4"}).exit_code, 0);
  ASSERT_EQ(run.Train({"--out=pieces", "--micro_batch=1", "--global_batch=4"}).exit_code, 0);
  const std::vector<double> whole = Losses(run / "whole"), pieces = Losses(run / "pieces");
  ASSERT_EQ(whole.size(), 8);
  ASSERT_EQ(pieces.size(), 8);
  // The first loss is a sum of 32 f32 losses in another order; later ones inherit the gradients'.
  EXPECT_NEAR(pieces[0], whole[0], 64 * 6e-8 * whole[0]);
  for (int i = 1; i < 8; ++i) EXPECT_NEAR(pieces[i], whole[i], 1e-4) << i;
}

TEST(DataOrderTest, FilesAreOneStreamInListOrder) {
  const TinyRun run;
  const std::string text = ReadFile(run / "text.txt");
  WriteFile(run / "b.txt", text.substr(0, 1001));
  WriteFile(run / "part-1.txt", text.substr(1001, 99));
  WriteFile(run / "part-2.txt", text.substr(1100));
  ASSERT_EQ(run.Train({"--save_every=4", "--keep_last=0"}).exit_code, 0);
  std::filesystem::remove_all(run / "run/step-8");
  const std::vector<double> losses = Losses(run / "run");
  // Cut into other files it is still the same run, which can be resumed.
  const ProgramResult parts = run.Train({"--train_data=b.txt,part-*.txt"});
  ASSERT_EQ(parts.exit_code, 0) << parts.err;
  EXPECT_THAT(parts.out, HasSubstr("resumed at step 4"));
  EXPECT_EQ(Losses(run / "run"), losses);
  EXPECT_EQ(run.Train({"--train_data=part-*.txt,b.txt"}).exit_code, 1) << "another order";
}

TEST(DataOrderTest, IsAFunctionOfTheSeed) {
  const TinyRun run;
  // The same weights for every seed: with --init_from the seed only decides the order.
  ASSERT_EQ(run.Train({"--steps=1"}).exit_code, 0);
  const auto first_loss = [&](const std::string& out, const Flags& flags) {
    EXPECT_EQ(run.Train(Flags{"--init_from=run/step-1", "--out=" + out} + flags).exit_code, 0);
    return Losses(run / out).at(0);
  };
  const double a = first_loss("a", {"--seed=7"});
  EXPECT_EQ(first_loss("again", {"--seed=7"}), a);
  EXPECT_NE(first_loss("b", {"--seed=8"}), a);
  const double in_order = first_loss("c", {"--seed=7", "--shuffle=false"});
  EXPECT_NE(in_order, a);
  EXPECT_EQ(first_loss("d", {"--seed=8", "--shuffle=false"}), in_order);
}

TEST(ResumeTest, SaysThatInitFromIsNotRead) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--steps=2"}).exit_code, 0);
  EXPECT_THAT(run.Train({"--steps=4"}).out, Not(HasSubstr("--init_from")));
  EXPECT_THAT(run.Train({"--steps=6", "--init_from=run/step-2"}).out,
              HasSubstr("warning: --init_from=run/step-2 is not read"));
}

TEST(DefaultsTest, GlobalBatchIsTheMicroBatch) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--micro_batch=3"}).exit_code, 0);
  EXPECT_EQ(testing::ReadMetrics(run / "run").at(0).at("tokens"), 3 * 8);
}

TEST(DefaultsTest, FreshModelKnowsNothing) {
  for (const char* model : {"--model=./llama.json", "--model=./gpt2.json"}) {
    const TinyRun run;
    ASSERT_EQ(run.Train({model}).exit_code, 0);
    // Logits of small random weights: their variance adds about half of itself to log(vocabulary).
    EXPECT_NEAR(Losses(run / "run").at(0), std::log(256.0), 0.1) << model;
  }
}

}  // namespace
}  // namespace strake
