// A sharded run that fails, or is stopped, ends like one on a single rank: one error, the
// checkpoints unchanged, nothing half-written, and it can be resumed from there.
#include <signal.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::Program;
using testing::ProgramOptions;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::RunProgram;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Layout {
  const char* name;
  Flags flags;
};

class RunFailureTest : public ::testing::TestWithParam<Layout> {
 protected:
  // Steps of 8 sequences; the learning rate does not depend on --steps.
  Flags RunFlags(const Flags& flags) const {
    return Flags{"--global_batch=8", "--micro_batch=2", "--schedule=constant", "--keep_last=0"} +
           GetParam().flags + flags;
  }
  ProgramResult Train(const Flags& flags) const { return run_.Train(RunFlags(flags)); }

  // Expects a failure after step 4, which is in a checkpoint.
  void ExpectFailsAndGoesOn(const Flags& run, const Flags& flags, int64_t max_file_bytes,
                            const std::string& error) {
    ASSERT_EQ(Train(run + Flags{"--steps=4"}).exit_code, 0);
    const auto checkpoint = ReadTree(run_ / "run/step-4");
    ASSERT_EQ(checkpoint.size(), 8);

    ProgramOptions options = run_.Here();
    options.max_file_bytes = max_file_bytes;
    const ProgramResult failed =
        RunProgram("tools/train", TinyRun::BaseFlags() + RunFlags(run + flags), options);
    EXPECT_EQ(failed.exit_code, 1);
    EXPECT_THAT(failed.err, StartsWith("error: "));
    EXPECT_EQ(std::count(failed.err.begin(), failed.err.end(), '\n'), 1) << failed.err;
    EXPECT_THAT(failed.err, HasSubstr(error));
    EXPECT_TRUE(ReadTree(run_ / "run/step-4") == checkpoint);
    ExpectOnly({".lock", "metrics.jsonl", "report.html", "report.jsonl", "run.json", "step-4"});

    const ProgramResult resumed = Train(run + Flags{"--steps=12"});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr("resumed at step 4"));
    EXPECT_EQ(TimelessMetrics(run_ / "run").size(), 12);
  }

  void ExpectOnly(const std::vector<std::string>& names) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(run_ / "run")) {
      found.push_back(entry.path().filename());
    }
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, names);
  }

  const TinyRun run_;
};

// Makes the embedding of `token` NaN.
void SpoilEmbedding(const std::string& path, int token) {
  std::string file = ReadFile(path);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  const auto header = nlohmann::json::parse(file.substr(sizeof(header_bytes), header_bytes));
  const nlohmann::json& table = header.at("model.embed_tokens.weight");
  const int64_t row_bytes = table.at("shape").at(1).get<int64_t>() * sizeof(float);
  const int64_t begin = table.at("data_offsets").at(0).get<int64_t>() + token * row_bytes;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(file.data() + sizeof(header_bytes) + header_bytes + begin, &nan, sizeof(nan));
  WriteFile(path, file);
}

// Larger than model.safetensors of 11 thousand weights, smaller than the optimizer's state, twice
// that.
constexpr int64_t kModelFits = 60000;

TEST_P(RunFailureTest, InASave) {
  ExpectFailsAndGoesOn({}, {"--steps=12", "--save_every=8"}, kModelFits, "optimizer.safetensors");
}

// Larger than run.json, smaller than the metrics of 100 steps.
constexpr int64_t kRunJsonFits = 6000;

// Only the first rank writes the log: the others are in the middle of the next step.
TEST_P(RunFailureTest, InAStepOnTheFirstRank) {
  ExpectFailsAndGoesOn({}, {"--steps=100"}, kRunJsonFits, "metrics.jsonl");
}

// 'Z' is in the validation text alone, and its embedding is not a number.
TEST_P(RunFailureTest, InAnEvaluation) {
  ASSERT_EQ(run_.Train({"--steps=1", "--out=hf"}).exit_code, 0);
  SpoilEmbedding(run_ / "hf/step-1/model.safetensors", 'Z');
  std::filesystem::remove(run_ / "hf/step-1/manifest.json");
  WriteFile(run_ / "z.txt", std::string(100, 'Z'));
  ExpectFailsAndGoesOn({"--init_from=hf/step-1", "--val_data=z.txt"},
                       {"--steps=12", "--eval_every=6"}, -1, "step 6: the loss is nan");
}

TEST_P(RunFailureTest, ASignalStopsAllRanksAfterTheSameStep) {
  Flags flags = RunFlags({"--steps=1000000", "--schedule=constant", "--log_every=1"});
  size_t last_step = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    Program program("tools/train",
                    TinyRun::BaseFlags() + flags + Flags{"--out=" + std::to_string(signal)},
                    run_.Here());
    ASSERT_TRUE(program.WaitForOutput("3/1000000"));
    program.Send(signal);
    const ProgramResult stopped = program.Wait();
    EXPECT_EQ(stopped.exit_code, 3);
    EXPECT_EQ(stopped.err, "");
    const std::string folder = run_ / std::to_string(signal);
    const size_t step = TimelessMetrics(folder).size();
    last_step = std::max(last_step, step + 50);
    EXPECT_THAT(stopped.out,
                HasSubstr("stopped by a signal after step " + std::to_string(step) + ";"));
    EXPECT_TRUE(std::filesystem::exists(folder + "/step-" + std::to_string(step) + "/run.json"));
  }
  // After resuming, they equal the run without a stop.
  const std::string steps = std::to_string(last_step);
  flags = flags + Flags{"--steps=" + steps};
  ASSERT_EQ(run_.Train(flags + Flags{"--out=whole"}).exit_code, 0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    const std::string name = std::to_string(signal);
    const ProgramResult resumed = run_.Train(flags + Flags{"--out=" + name});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_EQ(TimelessMetrics(run_ / name), TimelessMetrics(run_ / "whole"));
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(ReadFile(run_ / (name + "/step-" + steps + "/" + file)) ==
                  ReadFile(run_ / ("whole/step-" + steps + "/" + file)))
          << file;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, RunFailureTest,
                         ::testing::Values(Layout{"OneRank", {}},
                                           Layout{"Zero1SequenceParallel",
                                                  {"--tp=2", "--dp=2", "--zero=1",
                                                   "--sequence_parallel"}},
                                           Layout{"Zero2", {"--tp=1", "--dp=4", "--zero=2"}}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MappedFileTest, BecomingShorterEndsTheRunWithASentence) {
  const TinyRun run;
  Program program(
      "tools/train",
      TinyRun::BaseFlags() + Flags{"--steps=1000000", "--save_every=2", "--log_every=1"},
      run.Here());
  ASSERT_TRUE(program.WaitForOutput("3/1000000"));
  ASSERT_EQ(truncate((run / "text.txt").c_str(), 0), 0);
  const ProgramResult result = program.Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "error: text.txt: became shorter, or its disk failed, while it was read\n");
  EXPECT_TRUE(std::filesystem::exists(run / "run/step-2/run.json"));
}

}  // namespace
}  // namespace strake
