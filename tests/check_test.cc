// //tools:check as a user runs it: its output, its files and its exit code.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

constexpr char kCheck[] = "tools/check";

Flags Base(const std::string& model) {
  return {"--model=./" + model + ".json", "--seq_len=8", "--threads=1", "--report=report.json"};
}

nlohmann::json Report(const TinyRun& run) {
  return nlohmann::json::parse(ReadFile(run / "report.json"));
}

// Expects that every comparison passed, and one line on the screen for each.
void ExpectPass(const TinyRun& run, const ProgramResult& result, bool many_ranks) {
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("\nPASS: all "));
  EXPECT_THAT(result.out, Not(HasSubstr("EXCEEDED")));
  const nlohmann::json report = Report(run);
  EXPECT_TRUE(report["ok"]);
  EXPECT_TRUE(report["first_failure"].is_null());
  EXPECT_GT(report["ops"].size(), 30);
  EXPECT_EQ(report["layout"].is_null(), !many_ranks);
  for (const char* section : {"ops", "model", "layout"}) {
    for (const nlohmann::json& line : report[section]) {
      EXPECT_TRUE(line["ok"]) << line;
      EXPECT_LE(line["ratio"].get<double>(), 1) << line;
      EXPECT_THAT(result.out, HasSubstr(line["name"].get<std::string>()));
    }
  }
}

TEST(CheckTest, ACorrectBuildPasses) {
  const TinyRun run;
  const std::vector<std::pair<Flags, bool>> layouts = {
      {{}, false},
      {{"--ops=reference", "--micro_batch=1"}, false},
      {{"--activation_recompute=full", "--micro_batch=1"}, false},
      {{"--tp=2", "--sequence_parallel", "--activation_recompute=selective"}, true},
      {{"--tp=2", "--sequence_parallel"}, true},
      {{"--dp=3", "--zero=2", "--global_batch=12"}, true},
      {{"--tp=2", "--dp=2", "--zero=1", "--comm_check"}, true}};
  for (const char* model : {"gpt2", "llama"}) {
    for (const auto& [flags, many_ranks] : layouts) {
      SCOPED_TRACE(std::string(model) + (flags.empty() ? "" : flags[0]));
      ExpectPass(run, run.Run(kCheck, Base(model) + flags), many_ranks);
    }
  }
}

TEST(CheckTest, TheReportHoldsWhatHelpPromises) {
  const TinyRun run;
  const ProgramResult result = run.Run(kCheck, Base("gpt2") + Flags{"--tp=2", "--dp=2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json report = Report(run);
  EXPECT_EQ(report["config"]["tp"], 2);
  EXPECT_EQ(report["config"]["micro_batch"], 2);
  EXPECT_EQ(report["config"]["global_batch"], 4);
  EXPECT_GT(report["seconds"].get<double>(), 0);
  EXPECT_EQ(report["device"], "cpu");
  EXPECT_EQ(report["dtype"], "fp32");
  EXPECT_TRUE(report["gpu"].is_null());
  const int64_t parameters = report["parameters"];
  EXPECT_EQ(report["model_coverage"]["elements"], parameters);
  EXPECT_EQ(report["model_coverage"]["comparisons"], parameters);
  // Both data-parallel ranks hold everything. Both tensor-parallel ranks hold positions, norms and
  // the biases of the row-parallel layers, of a hidden size of 16.
  const int64_t replicated = 32 * 16 + 3 * 2 * 16 + 2 * 16;
  EXPECT_EQ(report["layout_coverage"]["elements"], parameters);
  EXPECT_EQ(report["layout_coverage"]["comparisons"], 2 * (parameters + replicated));
  for (const char* count : {"missed", "different", "dirty"}) {
    EXPECT_EQ(report["layout_coverage"][count], 0);
  }
  EXPECT_THAT(result.out,
              HasSubstr("compared once for each rank that holds it: " +
                        std::to_string(2 * (parameters + replicated)) + " comparisons"));
  // In execution order: gradients are cleared first.
  EXPECT_EQ(report["ops"][0]["name"], "set_zero");
  const auto first = std::find_if(report["ops"].begin(), report["ops"].end(),
                                  [](const auto& line) { return line["name"] != "set_zero"; });
  ASSERT_NE(first, report["ops"].end());
  EXPECT_EQ((*first)["name"], "embedding");
  EXPECT_EQ((*first)["pass"], "forward");
  EXPECT_EQ((*first)["tensor"], "y");
  EXPECT_EQ((*first)["shape"], nlohmann::json({16, 16}));
  int num_gradients = 0;
  for (const nlohmann::json& line : report["model"]) num_gradients += line["tensor"] == "gradient";
  EXPECT_EQ(num_gradients, 2 + 12 + 2);
}

TEST(CheckTest, BriefIsOneLineForEachSection) {
  const TinyRun run;
  const ProgramResult passed = run.Run(kCheck, Base("gpt2") + Flags{"--brief", "--dp=2"});
  EXPECT_EQ(passed.exit_code, 0) << passed.out << passed.err;
  EXPECT_THAT(passed.out, MatchesRegex("ops: all [0-9]+ comparisons [^\n]+\n"
                                       "model: all [0-9]+ comparisons [^\n]+\n"
                                       "layout: all [0-9]+ comparisons [^\n]+\n"
                                       "PASS: all [0-9]+ comparisons [^\n]+\n"));
  EXPECT_TRUE(Report(run)["ok"]);
}

TEST(CheckTest, NoLineIsWiderThanTheTerminal) {
  const TinyRun run;
  for (const size_t columns : {48, 72}) {
    testing::ProgramOptions options = run.Here();
    options.launcher = {"env", "COLUMNS=" + std::to_string(columns)};
    const ProgramResult result = testing::RunProgram(kCheck, Base("gpt2"), options);
    EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
    size_t widest = 0;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) widest = std::max(widest, line.size());
    EXPECT_LE(widest, columns) << result.out;
    EXPECT_GT(widest, columns - 20) << "rows fill the width";
  }
}

// The loss on a trained model's own text equals the training loss.
TEST(CheckTest, TheUsersWeightsAndData) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--steps=4"}).exit_code, 0);
  const ProgramResult result =
      run.Run(kCheck, {"--init_from=run/step-4", "--train_data=text.txt", "--seq_len=8",
                       "--micro_batch=4", "--threads=1", "--report=report.json"});
  ExpectPass(run, result, /*many_ranks=*/false);
  EXPECT_THAT(result.out, HasSubstr("checking run/step-4"));
}

// Weights so large that f32 says nothing about their gradients: the model's fault, not a bug.
TEST(CheckTest, WeightsThatMagnifyRoundingFail) {
  const TinyRun run;
  std::string config = testing::TinyConfig("llama");
  config.insert(config.rfind('}'), ", \"initializer_range\": 100");
  WriteFile(run / "large.json", config);
  const ProgramResult result = run.Run(kCheck, Base("large"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr("EXCEEDED"));
  EXPECT_THAT(result.out, HasSubstr("\nFAIL: "));
  EXPECT_THAT(result.out, HasSubstr("these weights magnify rounding"));
  // The rows of what fails are in the brief output, too.
  const ProgramResult brief = run.Run(kCheck, Base("large") + Flags{"--brief"});
  EXPECT_THAT(brief.out, HasSubstr("EXCEEDED"));
  EXPECT_THAT(brief.out, HasSubstr("\nmodel: "));
  EXPECT_LT(brief.out.size(), result.out.size() / 2);
  const nlohmann::json report = Report(run);
  EXPECT_FALSE(report["ok"]);
  EXPECT_FALSE(report["first_failure"]["ok"]);
  EXPECT_THAT(result.out, HasSubstr(report["first_failure"]["name"].get<std::string>()));
}

TEST(CheckTest, HelpExplains) {
  const TinyRun run;
  const ProgramResult result = run.Run(kCheck, {"--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* part : {"is it the model, or a bug?", "check --model=gpt2-124m", "--report",
                           "--tp", "--init_from", "first_failure", "comparisons", "exit code"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
}

TEST(CheckTest, BadFlagsAreNamed) {
  const TinyRun run;
  std::filesystem::create_directory(run / "adapter");
  testing::WriteFile(run / "adapter/adapter_config.json", "{}");
  const std::vector<std::pair<Flags, std::string>> cases = {
      {{"--model=gpt5"}, "gpt5"},
      {{"--model=missing/config.json"}, "missing/config.json"},
      {{"--device=cuda"}, "CUDA"},
      {{"--device=cuda", "--ops=reference"}, "--ops=reference runs on the CPU"},
      {{"--dtype=bf16", "--ops=reference"}, "--ops=reference runs in fp32"},
      {{"--comm=mpi"}, "--comm=mpi"},
      {{"--tp=3"}, "--tp=3"},
      {{"--micro_batch=0"}, "--micro_batch=0"},
      {{"--global_batch=3"}, "--global_batch=3"},
      {{"--steps=3"}, "--steps"},
      {{"--model=./gpt2.json", "--seq_len=33"}, "33"},
      {{"--micro_batch=100000000", "--seq_len=8"}, " are free"},
      {{"--tp=2", "--sequence_parallel", "--seq_len=7"}, "--seq_len=7"},
      {{"--report=nowhere/report.json"}, "there is no directory nowhere"},
      {{"--report=."}, "is a directory"},
      {{"--init_from=nowhere"}, "nowhere: neither model.safetensors"},
      {{"--init_from=adapter"}, "--init_from=adapter: is an adapter, and whole models are checked"},
      {{"--train_data=nowhere.txt"}, "nowhere.txt"},
  };
  for (const auto& [flags, part] : cases) {
    SCOPED_TRACE(flags.front());
    const ProgramResult result = run.Run(kCheck, Flags{"--model=./llama.json"} + flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    EXPECT_THAT(result.err, HasSubstr(part));
  }
}

}  // namespace
}  // namespace strake
