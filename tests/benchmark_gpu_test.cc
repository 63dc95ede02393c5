// //tools:benchmark --device=cuda, on the emulated GPU.
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const Flags kFlags = {"--model=./gpt2.json", "--micro_batch=2", "--seq_len=8",
                      "--steps=1",           "--threads=1",     "--device=cuda"};

ProgramResult Emulated(const TinyRun& run, const Flags& flags) {
  return run.Run("tools/benchmark_emulated", kFlags + flags);
}

void ExpectConsistent(const Json& report) {
  for (const char* key :
       {"gflops", "product_gflops", "percent_of_products", "copy_gigabytes_per_second",
        "planned_bytes", "observed_gpu_bytes", "peak_rss_bytes", "profiled_seconds_per_step"}) {
    EXPECT_GT(report.at(key), 0) << key;
  }
  EXPECT_FALSE(report.contains("nominal_gflops")) << "no data sheet has the emulated GPU";
  double in_ops = 0;
  for (const Json& op : report.at("op_kinds")) {
    EXPECT_GT(op.at("seconds_per_step"), 0) << op;
    in_ops += op.at("seconds_per_step").get<double>();
  }
  EXPECT_GT(in_ops, 0);
  EXPECT_LE(in_ops, report.at("profiled_seconds_per_step"));
  const double planned = report.at("planned_bytes").get<double>();
  EXPECT_GE(report.at("observed_gpu_bytes"), planned);
  EXPECT_LE(report.at("observed_gpu_bytes"), planned + 4096) << "batches, tables and sums";
}

class BenchmarkDTypeTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BenchmarkDTypeTest, JsonSaysEverything) {
  const TinyRun run;
  const std::string dtype = GetParam();
  const ProgramResult result = Emulated(run, {"--json", "--dtype=" + dtype});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = Json::parse(result.out);
  EXPECT_EQ(report.at("device"), "cuda");
  EXPECT_EQ(report.at("dtype"), dtype);
  EXPECT_EQ(report.at("gpu"), "emulated GPU");
  EXPECT_EQ(report.at("num_gpus"), 1);
  EXPECT_FALSE(report.contains("fma_peak_gflops"));
  EXPECT_EQ(report.at("communication").at("seconds_per_step"), 0);
  ExpectConsistent(report);
}

INSTANTIATE_TEST_SUITE_P(All, BenchmarkDTypeTest, ::testing::Values("fp32", "bf16"),
                         [](const auto& info) { return std::string(info.param); });

TEST(BenchmarkGpuTest, CommunicationIsExposedOrHidden) {
  const TinyRun run;
  const ProgramResult result = Emulated(run, {"--json", "--tp=2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = Json::parse(result.out);
  ExpectConsistent(report);
  const Json& communication = report.at("communication");
  const double all = communication.at("seconds_per_step");
  EXPECT_GT(all, 0);
  EXPECT_GT(communication.at("exposed_seconds_per_step"), 0);
  EXPECT_LE(communication.at("hidden_seconds_per_step"), all);
}

TEST(BenchmarkGpuTest, TableForPeople) {
  const TinyRun run;
  const ProgramResult result = Emulated(run, {});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* part :
       {"tokens/s", "6 N + 6 L C T per token", "L = ", "emulated GPU", "M x N x K", "GB/s",
        "planned", "observed on the GPU", "exposed", "hidden", "forecast: none, since",
        "by CUDA events", "matmul", "causal_attention", "adamw", "outside of ops"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
}

// What is the fastest here is chance.
TEST(BenchmarkGpuTest, TuneWritesATable) {
  const TinyRun run;
  std::set<std::string> products;
  for (const char* dtype : {"fp32", "bf16"}) {
    const ProgramResult result =
        Emulated(run, {"--tune=table.json", std::string("--dtype=") + dtype});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, ContainsRegex("c [a-z0-9]+\\[16, [0-9]+\\] = a .*, bias.*: algorithm "
                                          "[0-3] of 4, .* us, the first .* us\n"));
    EXPECT_THAT(result.out, HasSubstr(" transposed b "));
    EXPECT_THAT(result.out, HasSubstr(", sums of b: "));
    for (absl::string_view line : absl::StrSplit(result.out, '\n', absl::SkipEmpty())) {
      EXPECT_TRUE(products.insert(std::string(line.substr(0, line.rfind(": ")))).second);
    }
    std::ifstream file(run / "table.json");
    const Json table = Json::parse(file);
    EXPECT_EQ(table.at("gpu"), "emulated GPU");
    EXPECT_EQ(table.at("cublaslt"), 130100);
    for (const auto& [product, algorithm] : table.at("products").items()) {
      EXPECT_EQ(products.count(product), 1u) << product;
      if (algorithm == "unfused") continue;
      EXPECT_GT(algorithm, 0);
      EXPECT_LT(algorithm, 4);
    }
  }
  EXPECT_GT(products.size(), 10u);
}

TEST(BenchmarkGpuTest, TuneIsForGpus) {
  const TinyRun run;
  const ProgramResult result = Emulated(run, {"--tune=table.json", "--device=cpu"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("--tune is for --device=cuda"));
}

TEST(BenchmarkGpuTest, RefusesOneRankBesides) {
  const TinyRun run;
  const ProgramResult result = Emulated(run, {"--against_one_rank"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("--against_one_rank is for --comm=threads on CPUs"));
}

TEST(BenchmarkGpuTest, MeasuresEveryOpByItself) {
  const TinyRun run;
  const ProgramResult all = Emulated(run, {"--measure=ops", "--dtype=bf16", "--global_batch=4"});
  ASSERT_EQ(all.exit_code, 0) << all.err;
  for (const char* line :
       {"\nno forecast: .*, and none for emulated GPU\n",
        "\nmlp up +product +16 x 64 x 16 with bias, gelu_input +2 +[0-9.]+",
        "\nmlp down +input gradient +16 x 64 x 16 with gelu_grad_input +2 ",
        "\nqkv +weight gradient +16 x 48 x 16[a-z_ ]* +1 ",
        "\nqkv +weight gradient +16 x 48 x 16 with .*[+]= +1 ",
        "\nattention +causal_attention backward +16 x 48 +2 ", "\nweights +adamw +[0-9]+ +1 ",
        "\nsum +ops +[0-9]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ *\n"}) {
    EXPECT_THAT("\n" + all.out, ContainsRegex(line));
  }
  const ProgramResult products = Emulated(run, {"--measure=products", "--dtype=bf16"});
  ASSERT_EQ(products.exit_code, 0) << products.err;
  EXPECT_THAT(products.out, ContainsRegex("\nsum +products +15 "));
  EXPECT_THAT(products.out, Not(HasSubstr("adamw")));
  const ProgramResult f32 = Emulated(run, {"--measure=products", "--dtype=fp32"});
  ASSERT_EQ(f32.exit_code, 0) << f32.err;
  for (const char* kind : {"product", "input gradient", "weight gradient"}) {
    EXPECT_THAT(f32.out, ContainsRegex(absl::StrCat("\nqkv +", kind, " +16 x ")));
  }
}

TEST(BenchmarkGpuTest, AttentionAloneMustBeCudnns) {
  const TinyRun run;
  const ProgramResult result = Emulated(run, {"--measure=attention", "--dtype=bf16"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("attention runs on Strake's own kernels, and not on cuDNN's: "));
}

TEST(BenchmarkGpuTest, SaysWhyThereIsNoForecast) {
  const TinyRun run;
  const ProgramResult shared = Emulated(run, {"--tp=2"});
  ASSERT_EQ(shared.exit_code, 0) << shared.err;
  EXPECT_THAT(shared.out, HasSubstr("forecast: none, since the ranks share one GPU\n"));
}

TEST(BenchmarkGpuTest, RefusesOpsAsJson) {
  const TinyRun run;
  const ProgramResult result = Emulated(run, {"--measure=ops", "--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("--measure=ops is for --device=cuda, and prints no JSON"));
}

}  // namespace
}  // namespace strake::testing
