// Recomputed activations have the same bits as kept ones.
#include <string>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using ::testing::HasSubstr;
using testing::ReadFile;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::operator+;

struct Case {
  const char* name;
  const char* program;
  Flags flags;
};

class ActivationRecomputeTest : public ::testing::TestWithParam<std::tuple<const char*, Case>> {};

TEST_P(ActivationRecomputeTest, MovesNoBit) {
  const auto& [model, c] = GetParam();
  const TinyRun run;
  const auto train = [&, &c = c, &model = model](const std::string& how) {
    const auto result = run.Run(
        c.program, TinyRun::BaseFlags() + c.flags +
                       Flags{std::string("--model=./") + model + ".json", "--eval_every=4",
                             "--eval_batches=1", "--activation_recompute=" + how, "--out=" + how});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  };
  train("none");
  ASSERT_EQ(TimelessMetrics(run / "none").size(), 10);  // 8 steps, 2 validations
  for (const std::string how : {"selective", "full"}) {
    SCOPED_TRACE(how);
    train(how);
    EXPECT_EQ(TimelessMetrics(run / how), TimelessMetrics(run / "none"));
    for (const std::string file : {"/step-8/model.safetensors", "/step-8/optimizer.safetensors"}) {
      EXPECT_EQ(ReadFile(run / (how + file)), ReadFile(run / ("none" + file))) << file;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runs, ActivationRecomputeTest,
    ::testing::Combine(
        ::testing::Values("llama", "gpt2"),
        ::testing::Values(
            Case{"OneRank", "tools/train", {"--micro_batch=2", "--global_batch=4"}},
            Case{"Reference", "tools/train", {"--ops=reference"}},
            Case{"Bf16", "tools/train", {"--dtype=bf16"}},
            Case{"Sliced", "tools/train", {"--tp=2", "--dp=2", "--zero=1"}},
            Case{"SequenceParallel", "tools/train", {"--tp=2", "--sequence_parallel"}},
            Case{"OnGpu", "tools/train_emulated", {"--device=cuda"}},
            Case{"OnGpuInBf16",
                 "tools/train_emulated",
                 {"--device=cuda", "--dtype=bf16", "--tp=2", "--sequence_parallel"}})),
    [](const auto& info) {
      return std::string(std::get<const char*>(info.param)) + std::get<Case>(info.param).name;
    });

// The option is not part of a run's identity: the run may be resumed with another value.
TEST(ActivationRecomputeFlagTest, MayChangeOnResume) {
  const TinyRun whole, parts;
  ASSERT_EQ(whole.Train().exit_code, 0);
  ASSERT_EQ(parts.Train({"--steps=8", "--save_every=4", "--keep_last=0"}).exit_code, 0);
  ASSERT_EQ(
      parts.Train({"--resume=run/step-4", "--out=on", "--activation_recompute=full"}).exit_code, 0);
  EXPECT_EQ(ReadFile(parts / "on/step-8/model.safetensors"),
            ReadFile(whole / "run/step-8/model.safetensors"));
}

TEST(ActivationRecomputeFlagTest, OtherWordsAreNamed) {
  const auto result = TinyRun().Train({"--activation_recompute=some"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("--activation_recompute=some: must be"));
}

}  // namespace
}  // namespace strake
