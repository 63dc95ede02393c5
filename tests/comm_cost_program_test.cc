// //tools:comm_cost and //tools:step_times as a user runs them.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using Json = nlohmann::json;
using testing::Flags;
using testing::ProgramResult;
using testing::TinyRun;
using testing::operator+;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using testing::WriteFile;

class CommCostProgramTest : public ::testing::Test {
 protected:
  // Two heads, one layer of 16.
  ProgramResult Run(const Flags& flags) const {
    return run_.Run("tools/comm_cost",
                    Flags{"--model=./gpt2.json", "--seq_len=8", "--micro_batch=4"} + flags);
  }

  Json RunJson(const Flags& flags) const {
    const ProgramResult result = Run(flags + Flags{"--format=json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return Json::parse(result.out);
  }

  TinyRun run_;
};

// comm_cost sums up the calls that step_times lists. There are times for heads of 64 alone.
TEST_F(CommCostProgramTest, StepTimes) {
  WriteFile(run_ / "wide.json", R"({"model_type": "gpt2", "vocab_size": 256, "n_positions": 32,
    "n_embd": 128, "n_layer": 1, "n_head": 2, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0})");
  const Flags flags = {"--model=./wide.json", "--seq_len=8", "--micro_batch=4", "--tp=2", "--dp=2",
                       "--global_batch=40",   "--zero=2",    "--dtype=bf16"};
  const ProgramResult result = run_.Run("tools/step_times", flags + Flags{"--format=json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  int64_t calls = 0, bytes = 0;
  double flops = 0;
  for (const Json& call : json.at("calls")) {
    flops += call.at("times").get<int64_t>() * call.at("flops").get<double>();
    if (!call.contains("axis")) continue;
    calls += call.at("times").get<int64_t>();
    bytes += call.at("times").get<int64_t>() * call.at("bytes").get<int64_t>();
  }
  const Json total = RunJson(flags).at("total");
  EXPECT_EQ(calls, total.at("calls"));
  EXPECT_EQ(bytes, total.at("bytes"));
  // Attention is counted without the half that the mask excludes.
  const double formula = json.at("flops_per_token").get<double>() * 5 * 4 * 8 / 2;
  EXPECT_NEAR(flops, formula, 0.3 * formula);
  EXPECT_GT(json.at("planned_bytes"), 4 * json.at("parameters").get<int64_t>() / 2);

  double seconds = 0, class_flops = 0;
  for (const Json& row : json.at("classes")) {
    seconds += row.at("seconds").at("expected").get<double>();
    class_flops += row.at("flops").get<double>();
  }
  EXPECT_NEAR(json.at("seconds_per_step").at("expected"), seconds, 1e-9 * seconds);
  EXPECT_NEAR(class_flops, flops, 1e-9 * flops);
  EXPECT_NEAR(json.at("tokens_per_second").at("expected"), 40 * 8 / seconds, 1e-6 / seconds);
}

TEST_F(CommCostProgramTest, StepTimesInTables) {
  const ProgramResult result =
      run_.Run("tools/step_times", {"--model=gpt2-124m", "--seq_len=1024", "--micro_batch=2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("| attention, backward: dS "),
                                ContainsRegex("\\| MFU \\| [1-9][0-9.]+ % \\| "),
                                ContainsRegex("\\| all of these +\\| +[0-9.]+ \\| [1-9]")));
  const ProgramResult rates = run_.Run("tools/step_times", {"--rates", "--gpu=H100"});
  EXPECT_EQ(rates.exit_code, 0) << rates.err;
  EXPECT_THAT(rates.out, HasSubstr("| copies | TB/s | 2.79"));
}

TEST_F(CommCostProgramTest, StepTimesOfWhatHasNoRate) {
  const Flags tiny = {"--model=./gpt2.json", "--seq_len=8"};
  const ProgramResult heads = run_.Run("tools/step_times", tiny);
  EXPECT_EQ(heads.exit_code, 1);
  EXPECT_THAT(heads.err, HasSubstr("rates of attention are of heads of 64 and 128"));
  const ProgramResult f32 = run_.Run("tools/step_times", tiny + Flags{"--dtype=fp32"});
  EXPECT_EQ(f32.exit_code, 1);
  EXPECT_THAT(f32.err, HasSubstr("--device=cuda --dtype=fp32: there are rates for"));
}

TEST_F(CommCostProgramTest, MemoryOfTheRank) {
  const Json memory = RunJson({}).at("memory");
  int64_t sum = 0;
  for (const auto& [name, bytes] : memory.items()) {
    if (name != "total_bytes") sum += bytes.get<int64_t>();
  }
  EXPECT_EQ(memory.at("total_bytes"), sum);
  // Two numbers per parameter, and what aligns them.
  const int64_t weights = memory.at("weight_bytes");
  EXPECT_NEAR(memory.at("optimizer_bytes").get<int64_t>(), 2 * weights, 0.01 * weights);
  const Json sharded = RunJson({"--dp=4", "--zero=2"}).at("memory");
  EXPECT_NEAR(sharded.at("weight_bytes").get<int64_t>(), weights, 0.05 * weights);
  EXPECT_LT(4 * sharded.at("optimizer_bytes").get<int64_t>(), 2.1 * weights);

  const ProgramResult table = Run({"--tp=2"});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(ContainsRegex("memory of the rank: [0-9.]+ KiB: weights [0-9.]+ "),
                               ContainsRegex("forward +tp +2 all_reduce_sum +2 +4.00 KiB ")));
}

TEST_F(CommCostProgramTest, Json) {
  const Json json = RunJson(
      {"--tp=2", "--dp=2", "--global_batch=24", "--zero=1", "--bandwidth=1000", "--latency=0.25"});
  // Three micro-batches with two all-reduces of 4 * 8 tokens of 16 elements per pass.
  const Json forward = {{"phase", "forward"},
                        {"axis", "tp"},
                        {"collective", "all_reduce_sum"},
                        {"calls", 6},
                        {"bytes", 6 * 2048},
                        {"ring_bytes", 6 * 2048.0},
                        {"seconds", 6 * 2.048 + 6 * 2 * 0.25}};
  bool found = false;
  int64_t calls = 0, bytes = 0;
  double ring_bytes = 0, seconds = 0;
  for (const Json& row : json.at("collectives")) {
    if (row.at("phase") == "forward") {
      Json expected = forward;
      EXPECT_NEAR(row.at("seconds").get<double>(), forward.at("seconds").get<double>(), 1e-9);
      expected["seconds"] = row.at("seconds");
      EXPECT_EQ(row, expected);
      found = true;
    }
    calls += row.at("calls").get<int64_t>();
    bytes += row.at("bytes").get<int64_t>();
    ring_bytes += row.at("ring_bytes").get<double>();
    seconds += row.at("seconds").get<double>();
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(
      json.at("total"),
      Json({{"calls", calls}, {"bytes", bytes}, {"ring_bytes", ring_bytes}, {"seconds", seconds}}));
  const Json settings = {{"model", "./gpt2.json"},
                         {"tp", 2},
                         {"dp", 2},
                         {"sequence_parallel", false},
                         {"zero", 1},
                         {"global_batch", 24},
                         {"rank", 0},
                         {"bandwidth", 1000.0}};
  for (const auto& [key, value] : settings.items()) EXPECT_EQ(json.at(key), value) << key;
}

TEST_F(CommCostProgramTest, GradientsReducedInBf16AreHalfTheBytes) {
  const Flags flags = {"--dp=2", "--zero=1"};
  const auto gradient_bytes = [&](const Flags& more) {
    const Json json = RunJson(flags + more);
    for (const Json& row : json.at("collectives")) {
      if (row.at("phase") == "gradients") return row.at("bytes").get<int64_t>();
    }
    return int64_t{0};
  };
  const int64_t f32 = gradient_bytes({});
  EXPECT_GT(f32, 0);
  EXPECT_EQ(2 * gradient_bytes({"--grad_reduce_dtype=bf16"}), f32);
}

TEST_F(CommCostProgramTest, OneRankCostsNothing) {
  const Json json = RunJson({});
  EXPECT_EQ(json.at("collectives"), Json::array());
  EXPECT_EQ(json.at("total"),
            Json({{"calls", 0}, {"bytes", 0}, {"ring_bytes", 0.0}, {"seconds", 0.0}}));
}

TEST_F(CommCostProgramTest, WithoutAGlobalBatchThereIsOneMicroBatch) {
  EXPECT_EQ(RunJson({"--dp=3"}).at("global_batch"), 12);
  EXPECT_EQ(RunJson({"--dp=3"}), RunJson({"--dp=3", "--global_batch=12"}));
}

TEST_F(CommCostProgramTest, Bf16HalvesActivations) {
  const auto forward_bytes = [&](const char* dtype) -> int64_t {
    const Json json = RunJson({"--tp=2", dtype});
    for (const Json& row : json.at("collectives")) {
      if (row.at("phase") == "forward") return row.at("bytes");
    }
    return -1;
  };
  EXPECT_EQ(forward_bytes("--dtype=fp32"), 2 * 2048);
  EXPECT_EQ(forward_bytes("--dtype=bf16"), 2048);
}

TEST_F(CommCostProgramTest, RanksDiffer) {
  const Flags layout = {"--tp=2", "--dp=3", "--sequence_parallel", "--zero=2"};
  const Json first = RunJson(layout + Flags{"--rank=1"});
  // The same part of the parameters, then the other one.
  EXPECT_EQ(first.at("collectives"), RunJson(layout).at("collectives"));
  EXPECT_NE(first.at("collectives"), RunJson(layout + Flags{"--rank=2"}).at("collectives"));
}

TEST_F(CommCostProgramTest, Table) {
  const ProgramResult result = Run({"--tp=2", "--dp=2", "--sequence_parallel", "--zero=1"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(
      result.out,
      AllOf(HasSubstr("rank 0 of tp 2, dp 2, sequence parallelism on, zero 1"),
            ContainsRegex("\nphase +axis +ranks +collective +calls +bytes +ring bytes +ms\n"),
            ContainsRegex("\nforward +tp +2 reduce_scatter_sum +2 +4.00 KiB +2.00 KiB +[0-9.]+\n"),
            ContainsRegex("\nforward +tp +2 all_gather +2 +4.00 KiB +2.00 KiB +[0-9.]+\n"),
            ContainsRegex("\ncontrol +dp +2 all_reduce_sum +1 +16 B +16 B +[0-9.]+\n"),
            ContainsRegex("\ntotal +tp +[0-9]+ "), ContainsRegex("\ntotal +dp +[0-9]+ "),
            ContainsRegex("\ntotal +all +[0-9]+ ")));
}

TEST_F(CommCostProgramTest, Help) {
  const ProgramResult result = Run({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("--bandwidth"), HasSubstr("--sequence_parallel")));
}

TEST_F(CommCostProgramTest, WhatCannotBeIsOneErrorWithBothNumbers) {
  const std::vector<std::pair<Flags, std::vector<std::string>>> cases = {
      {{"--tp=3"}, {"--tp=3", "2 "}},
      {{"--tp=0"}, {"--tp", "0"}},
      {{"--tp=2", "--seq_len=7", "--sequence_parallel"}, {"--seq_len=7", "--tp=2"}},
      {{"--dp=3", "--global_batch=16"}, {"--global_batch=16", "--dp=3", "12"}},
      {{"--global_batch=6"}, {"--global_batch=6", "--micro_batch=4"}},
      {{"--tp=2", "--dp=2", "--rank=4"}, {"--rank=4", "4 ranks"}},
      {{"--zero=3"}, {"--zero", "3"}},
      {{"--seq_len=33"}, {"33", "32"}},
      {{"--model=nothing"}, {"nothing", "gpt2-124m"}},
      {{"--bandwidth=0"}, {"--bandwidth", "0"}},
      {{"--format=xml"}, {"xml", "table, json"}},
      {{"--model=./llama.json", "--tp=2", "--seq_len=1000000000", "--micro_batch=1000000000"},
       {"1000000000", "2^62"}},
  };
  for (const auto& [flags, parts] : cases) {
    SCOPED_TRACE(flags[0] + " " + flags.back());
    const ProgramResult result = Run(flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  }
}

}  // namespace
}  // namespace strake
