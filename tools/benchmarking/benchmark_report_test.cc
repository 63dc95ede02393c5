#include "tools/benchmarking/benchmark_report.h"

#include <sstream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/families.h"
#include "nlohmann/json.hpp"
#include "tools/benchmarking/op_times_table.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

// Two steps of 1 s. On one rank with f32, a product is at half of its roofline of 0.2 s per step,
// and a copy at a quarter of its 0.05 s.
BenchmarkMeasurement TwoSteps() {
  BenchmarkMeasurement m;
  m.step_seconds = {1, 1};
  m.num_profiled_steps = 2;
  m.profiled_seconds = 2;
  m.fma_peak_flops = 100e9;
  m.bf16_peak_flops = 200e9;
  m.memory_bytes_per_second = 20e9;
  m.ops[{"matmul", Pass::kForward}] = {
      .seconds = 0.8, .calls = 6, .cost = {.flops = 40e9, .bytes = 1e9}};
  m.ops[{"gelu", Pass::kBackward}] = {.seconds = 0.4, .calls = 2, .cost = {.bytes = 2e9}};
  m.ops[{"all_reduce", Pass::kBackward}] = {.seconds = 0.2, .calls = 2, .cost = {}};
  return m;
}

Json Report(const BenchmarkConfig& config) {
  const auto model = ModelPreset("gpt2-tiny");
  EXPECT_TRUE(model.ok()) << model.status();
  return BenchmarkReport(config, *model, TwoSteps());
}

Json OpOf(const Json& report, const char* name) {
  for (const Json& op : report["op_kinds"]) {
    if (op["op"] == name) return op;
  }
  ADD_FAILURE() << "no " << name << " in " << report;
  return {};
}

std::string Printed(const Json& report, int columns = 0) {
  std::ostringstream out;
  PrintBenchmarkReport(report, columns, &out);
  return out.str();
}

TEST(BenchmarkReportTest, RooflinesAreOfFlopsOrBytes) {
  const Json report = Report({});
  EXPECT_DOUBLE_EQ(report["memory_gigabytes_per_second"], 20);
  EXPECT_FALSE(report.contains("bf16_peak_gflops"));

  const Json product = OpOf(report, "matmul");
  EXPECT_DOUBLE_EQ(product["seconds_per_step"], 0.4);
  EXPECT_DOUBLE_EQ(product["percent_of_step"], 40);
  EXPECT_DOUBLE_EQ(product["flops_per_step"], 20e9);
  EXPECT_DOUBLE_EQ(product["bytes_per_step"], 0.5e9);
  EXPECT_DOUBLE_EQ(product["gflops"], 50);
  EXPECT_DOUBLE_EQ(product["roofline_seconds_per_step"], 0.2);
  EXPECT_DOUBLE_EQ(product["percent_of_roofline"], 50);

  const Json copy = OpOf(report, "gelu");
  EXPECT_EQ(copy["flops_per_step"], 0);
  EXPECT_DOUBLE_EQ(copy["gigabytes_per_second"], 5);
  EXPECT_DOUBLE_EQ(copy["roofline_seconds_per_step"], 0.05);
  EXPECT_DOUBLE_EQ(copy["percent_of_roofline"], 25);

  EXPECT_EQ(OpOf(report, "all_reduce")["percent_of_roofline"], 0) << "nothing is counted";
  EXPECT_DOUBLE_EQ(report["outside_ops_seconds_per_step"], 0.3);
  EXPECT_DOUBLE_EQ(report["roofline_seconds_per_step"], 0.25);
  EXPECT_DOUBLE_EQ(report["percent_of_roofline"], 25);
}

TEST(BenchmarkReportTest, Bf16HasItsOwnPeak) {
  BenchmarkConfig config;
  config.machine.dtype = "bf16";
  const Json report = Report(config);
  EXPECT_DOUBLE_EQ(report["bf16_peak_gflops"], 200);
  EXPECT_DOUBLE_EQ(report["percent_of_bf16_peak"], report["percent_of_fma_peak"].get<double>() / 2);
  EXPECT_DOUBLE_EQ(OpOf(report, "matmul")["percent_of_roofline"], 25);
  EXPECT_DOUBLE_EQ(OpOf(report, "gelu")["percent_of_roofline"], 25);
}

TEST(BenchmarkReportTest, ARankHasItsShareOfThePeaks) {
  BenchmarkConfig config;
  config.layout.tp = 2;
  config.layout.dp = 2;
  const Json report = Report(config);
  EXPECT_DOUBLE_EQ(OpOf(report, "matmul")["percent_of_roofline"], 200);
  EXPECT_DOUBLE_EQ(OpOf(report, "gelu")["percent_of_roofline"], 100);
  EXPECT_THAT(Printed(report), HasSubstr("tp 2 x dp 2 = 4 ranks (threads)"));
}

TEST(BenchmarkReportTest, StagesAndTheirLayersAreNamed) {
  BenchmarkConfig config;
  config.global_batch = 8;
  config.layout.pp = 2;
  config.layout.pp_layers = "3,1";
  const Json report = Report(config);
  EXPECT_EQ(report["pp"], 2);
  EXPECT_THAT(Printed(report),
              HasSubstr("tp 1 x pp 2 (1f1b, layers 3,1) x dp 1 = 2 ranks (threads)"));
}

TEST(BenchmarkReportTest, AGpuHasNoRooflines) {
  BenchmarkConfig config;
  config.machine.device = "cuda";
  const Json report = Report(config);
  EXPECT_FALSE(report.contains("memory_gigabytes_per_second"));
  EXPECT_FALSE(OpOf(report, "matmul").contains("percent_of_roofline"));
}

BenchmarkConfig OnCuda() {
  BenchmarkConfig config;
  config.machine.device = "cuda";
  config.global_batch = 5;
  config.seq_len = 20;
  return config;
}

TEST(OpTimesTableTest, NoLineIsWiderThanTheTerminal) {
  const OpTimes op = {.layer = "decoder block 11",
                      .op = "causal_attention backward",
                      .shapes = "65536 x 3072 x 768 with bias, gelu_input",
                      .times = 48,
                      .seconds = 1.25e-3,
                      .cost = {.flops = 3e11, .bytes = 1e9},
                      .forecast = {1e-3, 1.2e-3, 1.5e-3}};
  const std::string whole = OpTimesRow(op, /*columns=*/0);
  EXPECT_EQ(whole.size(), OpTimesHeading(0).size() - 3) << "one line below its heading";
  EXPECT_EQ(OpTimesRow(op, 200), whole);
  EXPECT_EQ(OpTimesHeading(100), "");
  for (const int columns : {30, 72, 80, 120, 162, 163}) {
    std::istringstream lines(OpTimesHeading(columns) + OpTimesRow(op, columns));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), columns) << line;
  }
  EXPECT_EQ(
      OpTimesRow(op, 100),
      "decoder block 11  causal_attention backward  65536 x 3072 x 768 with bias, gelu_input\n"
      "    48 x 1.2500 ms, 240.0 TFLOP/s, 800.0 GB/s; forecast 1.2000, from 1.0000 to 1.5000\n");
}

TEST(BenchmarkReportTest, NoLineIsWiderThanTheTerminal) {
  BenchmarkMeasurement m = TwoSteps();
  StepTimes times;
  times.ops[{"matmul", Pass::kForward}] = {0.5, 0.25, 0.125};
  times.sum.seconds = {4, 2, 1};
  m.forecast = times;
  const Json report = BenchmarkReport(OnCuda(), *ModelPreset("gpt2-tiny"), m);
  for (const int columns : {40, 80, 119, 120, 200}) {
    const std::string text = Printed(report, columns);
    for (const absl::string_view line : absl::StrSplit(text, '\n')) EXPECT_LE(line.size(), columns);
    EXPECT_EQ(text.find("500.000 to 125.000") != text.npos, columns >= 120) << text;
  }
}

TEST(BenchmarkReportTest, AForecastIsBesideTheMeasurement) {
  BenchmarkMeasurement m = TwoSteps();
  StepTimes times;
  times.ops[{"matmul", Pass::kForward}] = {0.5, 0.25, 0.125};
  times.sum.seconds = {4, 2, 1};
  m.forecast = times;
  const Json report = BenchmarkReport(OnCuda(), *ModelPreset("gpt2-tiny"), m);
  EXPECT_DOUBLE_EQ(report["forecast"]["tokens_per_second"]["low"], 25);
  EXPECT_DOUBLE_EQ(report["forecast"]["tokens_per_second"]["expected"], 50);
  EXPECT_DOUBLE_EQ(report["forecast"]["seconds_per_step"]["ceiling"], 1);
  EXPECT_DOUBLE_EQ(OpOf(report, "matmul")["forecast_seconds_per_step"]["expected"], 0.25);
  EXPECT_FALSE(OpOf(report, "gelu").contains("forecast_seconds_per_step"));

  const std::string text = Printed(report);
  EXPECT_THAT(text, HasSubstr("forecast: 50 tokens/s, from 25 to 100; measured are 2.00 times"));
  EXPECT_THAT(text, HasSubstr(" 250.000  500.000 to 125.000\n"));
}

TEST(BenchmarkReportTest, WithoutAForecastItSaysWhy) {
  BenchmarkMeasurement m = TwoSteps();
  m.forecast = absl::NotFoundError("the moon is full");
  const Json report = BenchmarkReport(OnCuda(), *ModelPreset("gpt2-tiny"), m);
  EXPECT_FALSE(report.contains("forecast"));
  EXPECT_THAT(Printed(report), HasSubstr("forecast: none, since the moon is full\n"));
}

}  // namespace
}  // namespace strake
