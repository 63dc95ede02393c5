// The programs with --device=cuda, on the emulated GPU: they give the CPU's results, always the
// same, and a run can be resumed from any checkpoint on either device.
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
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
using testing::Losses;
using testing::Program;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadMetrics;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr char kTrain[] = "tools/train_emulated";
constexpr char kGenerate[] = "tools/generate_emulated";
const Flags kCpu = {"--device=cpu"};
const Flags kFp32 = {"--device=cuda", "--dtype=fp32"};
const Flags kBf16 = {"--device=cuda", "--dtype=bf16"};

// Two micro-batches. With an epsilon this far above every gradient a step is lr / eps = 0.5 times
// the gradient, so that errors stay in proportion.
Flags Steps(int steps) {
  return {"--steps=" + std::to_string(steps),
          "--micro_batch=2",
          "--global_batch=4",
          "--lr=0.05",
          "--eps=0.1",
          "--warmup_steps=0",
          "--schedule=constant"};
}

ProgramResult Train(const TinyRun& run, const Flags& flags) {
  const ProgramResult result = run.Run(kTrain, TinyRun::BaseFlags() + flags);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result;
}

// Roundings, each with a root mean square of a unit over sqrt(3), add up in quadrature; the largest
// of many of their sums is about four times the root mean square. f32 rounds each of the at most 48
// terms of the about 14 products that a logit comes from; bf16 rounds each product and each weight.
double RelativeError(const Flags& machine) {
  return machine == kBf16 ? 4 * std::sqrt(2 * 14 / 3.0) * 0x1p-8
                          : 4 * std::sqrt(14 * 48 / 3.0) * 0x1p-24;
}

// The error of a loss: its logit's and its normalizer's, for logits of at most 2, and that of the
// learned part, from gradients with four times as many roundings.
double LossTolerance(const Flags& machine, double learned) {
  return RelativeError(machine) * (2 * 2 + 2 * std::fabs(learned));
}

void ExpectSameLosses(const std::vector<double>& actual, const std::vector<double>& expected,
                      const Flags& machine) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double tolerance = LossTolerance(machine, expected[0] - expected[i]);
    EXPECT_NEAR(actual[i], expected[i], tolerance) << "step " << i + 1;
  }
}

double ValidationLoss(const std::string& run_directory) {
  return ReadMetrics(run_directory).back().at("val_loss");
}

void ExpectSameFiles(const TinyRun& run, const std::string& actual, const std::string& expected,
                     int step) {
  for (const char* name : {"config.json", "model.safetensors", "optimizer.safetensors"}) {
    const std::string path = "/step-" + std::to_string(step) + "/" + name;
    const std::string contents = ReadFile(run / (expected + path));
    EXPECT_NE(contents, "");
    // Not EXPECT_EQ: it would print the weights.
    EXPECT_TRUE(ReadFile(run / (actual + path)) == contents) << actual << path;
  }
}

// The whole run except times and flags.
void ExpectSameBytes(const TinyRun& run, const std::string& actual, const std::string& expected,
                     int step) {
  ExpectSameFiles(run, actual, expected, step);
  EXPECT_EQ(TimelessMetrics(run / actual), TimelessMetrics(run / expected)) << actual;
}

struct Run {
  const char* name;
  const char* model;
  Flags machine;
};

// Each model and each dtype once.
class CudaProgramTest : public ::testing::TestWithParam<Run> {
 protected:
  Flags Model() const { return {std::string("--model=./") + GetParam().model}; }
  const Flags& Machine() const { return GetParam().machine; }
  const TinyRun run_;
};

// The validation's last micro-batch is not full; the sample is drawn from the same probabilities.
TEST_P(CudaProgramTest, LearnsWhatTheCpuLearns) {
  WriteFile(run_ / "val.txt", ReadFile(run_ / "text.txt").substr(1000, 5 * 8 + 1));
  const Flags flags =
      Model() + Steps(8) + Flags{"--val_data=val.txt", "--eval_every=8", "--sample_every=8"};
  const std::string cpu_out = Train(run_, flags + kCpu + Flags{"--out=cpu"}).out;
  const std::vector<double> cpu = Losses(run_ / "cpu");
  ASSERT_EQ(cpu.size(), 8);
  const double learned = cpu.front() - cpu.back();
  const auto sample = [](const std::string& out) {
    const size_t begin = out.find("sample: ");
    return begin == std::string::npos ? "none"
                                      : out.substr(begin, out.find("step 8  saved") - begin);
  };
  const ProgramResult gpu = Train(run_, flags + Machine() + Flags{"--out=gpu"});
  EXPECT_THAT(gpu.out, HasSubstr("machine    emulated GPU, " + Machine()[1].substr(8)));
  EXPECT_THAT(gpu.out, HasSubstr("(5 of 5 sequences)"));
  EXPECT_LT(LossTolerance(Machine(), learned), learned / 2) << "no learning would be seen";
  ExpectSameLosses(Losses(run_ / "gpu"), cpu, Machine());
  EXPECT_NEAR(ValidationLoss(run_ / "gpu"), ValidationLoss(run_ / "cpu"),
              LossTolerance(Machine(), learned));
  if (Machine() == kFp32) {
    EXPECT_EQ(sample(gpu.out), sample(cpu_out));
  }
}

TEST_P(CudaProgramTest, TheSameRunGivesTheSameBytes) {
  const Flags flags = Model() + Steps(4) + Machine() + Flags{"--eval_every=2", "--eval_batches=2"};
  Train(run_, flags + Flags{"--out=a", "--sample_every=3"});
  // Logs, samples, checkpoints and graphs do not affect the computation.
  Train(run_, flags + Flags{"--out=b", "--sample_every=3", "--log_every=1", "--save_every=2"});
  Train(run_, flags + Flags{"--out=c", "--cuda_graph=false"});
  // Nothing but cuDNN's attention makes use of it, and here there is none.
  const ProgramResult any_bits =
      Train(run_, flags + Flags{"--out=d", "--sample_every=3", "--deterministic=false"});
  EXPECT_THAT(any_bits.out, HasSubstr(Machine()[1].substr(8) + ", not deterministic\n"));
  for (const char* other : {"b", "c", "d"}) ExpectSameBytes(run_, other, "a", 4);
}

TEST_P(CudaProgramTest, AKilledRunGoesOnBitForBit) {
  const Flags flags =
      Model() + Steps(6) + Machine() + Flags{"--save_every=2", "--keep_last=0", "--log_every=1"};
  Train(run_, flags + Flags{"--out=whole"});
  {
    Program killed(kTrain, TinyRun::BaseFlags() + flags + Flags{"--out=killed"}, run_.Here());
    ASSERT_TRUE(killed.WaitForOutput("saved killed/step-2"));
    killed.Send(SIGKILL);
    const int exit_code = killed.Wait().exit_code;
    EXPECT_THAT(exit_code, AnyOf(128 + SIGKILL, 0));
    // The run may have been faster; then restore the state right after the first checkpoint.
    for (const char* later : {"killed/step-4", "killed/step-6"}) {
      if (exit_code == 0) std::filesystem::remove_all(run_ / later);
    }
  }
  EXPECT_THAT(Train(run_, flags + Flags{"--out=killed"}).out, HasSubstr(", resumed at step "));
  ExpectSameBytes(run_, "killed", "whole", 6);
}

TEST_P(CudaProgramTest, GeneratesTheTextOfTheCpu) {
  Train(run_, Model() + Steps(4) + kBf16);
  const Flags flags = {"--checkpoint=run", "--prompt=line", "--max_tokens=20", "--temperature=0"};
  const ProgramResult cpu = run_.Run(kGenerate, flags + kCpu);
  EXPECT_EQ(cpu.exit_code, 0) << cpu.err;
  EXPECT_GE(cpu.out.size(), 4 + 20 + 1);  // bytes that are no characters become three others
  EXPECT_EQ(run_.Run(kGenerate, flags + kFp32).out, cpu.out);
  EXPECT_EQ(run_.Run(kGenerate, flags + kFp32 + Flags{"--tp=2"}).out, cpu.out);
  const ProgramResult bf16 = run_.Run(kGenerate, flags + kBf16);
  EXPECT_EQ(bf16.exit_code, 0) << bf16.err;
  EXPECT_GE(bf16.out.size(), 4 + 20 + 1);
  EXPECT_EQ(run_.Run(kGenerate, flags + kBf16).out, bf16.out);
}

TEST_P(CudaProgramTest, RanksShareTheGpu) {
  const Flags flags = Model() + Steps(3) + Flags{"--save_every=2", "--keep_last=0"};
  Train(run_, flags + kCpu + Flags{"--out=cpu"});
  const Flags sliced =
      flags + Machine() +
      Flags{"--tp=2", "--dp=2", "--sequence_parallel", "--zero=1", "--micro_batch=1"};
  EXPECT_THAT(Train(run_, sliced + Flags{"--out=whole"}).out,
              HasSubstr("emulated GPU, shared by 4 ranks"));
  ExpectSameLosses(Losses(run_ / "whole"), Losses(run_ / "cpu"), Machine());
  Train(run_, sliced + Flags{"--out=rest", "--resume=whole/step-2"});
  ExpectSameFiles(run_, "rest", "whole", 3);
}

INSTANTIATE_TEST_SUITE_P(Runs, CudaProgramTest,
                         ::testing::Values(Run{"LlamaFp32", "llama.json", kFp32},
                                           Run{"Gpt2Bf16", "gpt2.json", kBf16}),
                         [](const auto& info) { return std::string(info.param.name); });

// Two micro-batches a step, also as graphs, and two ranks.
TEST(CudaBlendTest, SourcesHaveTheLossesOfTheCpu) {
  const TinyRun run;
  WriteFile(run / "other.txt", std::string(400, 'x'));
  const Flags flags = Steps(4) + Flags{"--train_data=text.txt:0.5,other:other.txt:0.5"};
  EXPECT_THAT(Train(run, flags + kCpu + Flags{"--out=cpu"}).out,
              HasSubstr("blend      text.txt 0.5: "));
  const std::vector<nlohmann::json> cpu = ReadMetrics(run / "cpu");
  for (const Flags& more :
       {Flags{"--out=gpu"}, Flags{"--out=ranks", "--dp=2", "--micro_batch=1"}}) {
    Train(run, flags + kFp32 + more);
    const std::vector<nlohmann::json> gpu = ReadMetrics(run / more[0].substr(6));
    ASSERT_EQ(gpu.size(), cpu.size());
    for (int step = 0; step < 4; ++step) {
      for (const char* source : {"text.txt", "other"}) {
        const nlohmann::json& expected = cpu[step].at("sources").at(source);
        const nlohmann::json& actual = gpu[step].at("sources").at(source);
        EXPECT_EQ(actual.at("tokens"), 16);
        const double loss = expected.at("loss");
        EXPECT_NEAR(
            actual.at("loss").get<double>(), loss,
            LossTolerance(kFp32, cpu[0].at("sources").at(source).at("loss").get<double>() - loss))
            << source << ", step " << step + 1;
      }
    }
  }
}

// The slices of a trace, by rank and row.
std::map<int, std::map<std::string, std::vector<nlohmann::json>>> ReadTrace(
    const std::string& path) {
  std::map<int, std::map<std::string, std::vector<nlohmann::json>>> slices;
  std::map<std::pair<int, int>, std::string> rows;
  const nlohmann::json trace = nlohmann::json::parse(ReadFile(path));
  for (const nlohmann::json& event : trace.at("traceEvents")) {
    const int process = event.at("pid"), thread = event.at("tid");
    if (event.at("name") == "thread_name") rows[{process, thread}] = event.at("args").at("name");
    if (event.at("ph") == "X") slices[process - 1][rows.at({process, thread})].push_back(event);
  }
  return slices;
}

int CountOf(const std::vector<nlohmann::json>& slices, const std::string& category) {
  return std::count_if(slices.begin(), slices.end(),
                       [&](const nlohmann::json& slice) { return slice.at("cat") == category; });
}

// Expects that the slices of a row lie within the step, and each within those that are open.
void ExpectWithinTheStep(const std::vector<nlohmann::json>& slices, const nlohmann::json& step) {
  const auto nanoseconds = [](const nlohmann::json& slice, const char* key) {
    return std::llround(slice.at(key).get<double>() * 1000);
  };
  const auto end_of = [&](const nlohmann::json& slice) {
    return nanoseconds(slice, "ts") + nanoseconds(slice, "dur");
  };
  std::vector<int64_t> ends = {end_of(step)};
  for (const nlohmann::json& slice : slices) {
    const int64_t begin = nanoseconds(slice, "ts");
    while (ends.size() > 1 && ends.back() <= begin) ends.pop_back();
    EXPECT_GE(begin, nanoseconds(step, "ts")) << slice;
    EXPECT_LE(end_of(slice), ends.back()) << slice;
    ends.push_back(end_of(slice));
  }
}

// The third step's kernels: steps before it and after it are graphs, where a rank is alone.
TEST(CudaTraceTest, ShowsWhatTheGpuDidAndChangesNoBit) {
  const TinyRun run;
  for (const Flags& layout :
       {Flags{"--tp=1"}, Flags{"--tp=2", "--dp=2", "--micro_batch=1", "--zero=2"}}) {
    const std::string name = layout[0].substr(2);
    const Flags flags = Steps(4) + kFp32 + layout;
    Train(run, flags + Flags{"--out=plain-" + name});
    Train(run, flags + Flags{"--out=traced-" + name, "--trace_steps=3..3"});
    ExpectSameBytes(run, "traced-" + name, "plain-" + name, 4);
    const auto trace = ReadTrace(run / ("traced-" + name + "/trace/steps_3-3.json"));
    const bool alone = layout.size() == 1;
    ASSERT_EQ(trace.size(), alone ? 1 : 4);
    for (const auto& [rank, rows] : trace) {
      SCOPED_TRACE(::testing::Message() << name << ", rank " << rank);
      const std::vector<nlohmann::json>& main = rows.at("main");
      EXPECT_EQ(main.at(0).at("name"), "step 3");
      EXPECT_GT(CountOf(main, "op"), 50);
      EXPECT_EQ(CountOf(rows.at("GPU"), "op"), CountOf(main, "op"));
      ExpectWithinTheStep(rows.at("GPU"), main[0]);
      EXPECT_EQ(rows.size(), alone ? 2 : 4);
      if (alone) continue;
      for (const char* axis : {"dp", "tp"}) {
        const auto& collectives = rows.at(std::string("GPU, collectives over ") + axis);
        EXPECT_GT(CountOf(collectives, "collective"), 0);
        ExpectWithinTheStep(collectives, main[0]);
      }
    }
  }
}

TEST(CudaCheckpointTest, ARunGoesOnOnAnyMachine) {
  const TinyRun run;
  const Flags flags = Steps(5) + Flags{"--save_every=3", "--keep_last=0"};
  const std::vector<Flags> machines = {kCpu, kFp32, kBf16};
  for (size_t i = 0; i < machines.size(); ++i) {
    Train(run, flags + machines[i] + Flags{"--out=from" + std::to_string(i)});
  }
  const std::vector<double> cpu = Losses(run / "from0");
  for (size_t from = 0; from < machines.size(); ++from) {
    for (size_t to = 0; to < machines.size(); ++to) {
      if (from == to) continue;
      SCOPED_TRACE(::testing::Message() << from << " -> " << to);
      const ProgramResult resumed =
          Train(run, flags + machines[to] +
                         Flags{"--resume=from" + std::to_string(from) + "/step-3", "--out=to"});
      EXPECT_THAT(resumed.out, HasSubstr(", resumed at step 3"));
      const bool bf16 = machines[from] == kBf16, becomes_bf16 = machines[to] == kBf16;
      EXPECT_EQ(resumed.out.find("warning: --dtype was ") != std::string::npos,
                bf16 != becomes_bf16);
      const std::vector<double> rest = Losses(run / "to");
      ASSERT_EQ(rest.size(), 2);
      for (size_t i = 0; i < rest.size(); ++i) {
        EXPECT_NEAR(rest[i], cpu[3 + i],
                    LossTolerance(bf16 || becomes_bf16 ? kBf16 : kFp32, cpu[0] - cpu[3 + i]));
      }
      std::filesystem::remove_all(run / "to");
    }
  }
}

}  // namespace
}  // namespace strake
