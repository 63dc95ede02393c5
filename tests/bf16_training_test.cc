// Training and generation in bf16 on the CPU, compared with fp32.
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using ::testing::HasSubstr;
using testing::Losses;
using testing::ProgramResult;
using testing::TinyRun;
using testing::operator+;

constexpr int kSteps = 300, kWindow = 50;
constexpr int kLayers = 2, kVocabulary = 256;

constexpr char kLlama[] =
    R"({"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 64,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true})";
constexpr char kGpt2[] =
    R"({"model_type": "gpt2", "vocab_size": 256, "n_positions": 64, "n_embd": 64, "n_layer": 2,
        "n_head": 4, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0})";

// A logit comes from ten stores per layer, one after the other, and three more. Each has an error
// of 2^-9 of the stored value, in the root mean square, and random errors add up like the steps of
// a random walk. A logit is about as large as the logarithm of the vocabulary, and the mean over
// tokens and steps reduces the error. The roundings of the weights matter less: the masters are
// f32.
double LossBound() {
  return std::sqrt(10 * kLayers + 3) * 0x1p-9 * std::log(static_cast<double>(kVocabulary));
}

double Mean(const std::vector<double>& x, int begin) {
  return std::accumulate(x.begin() + begin, x.begin() + begin + kWindow, 0.0) / kWindow;
}

class Bf16TrainingTest : public ::testing::TestWithParam<const char*> {
 protected:
  Bf16TrainingTest() { testing::WriteFile(run_ / "model.json", GetParam()); }

  std::vector<double> Train(const std::string& out, const Flags& flags) {
    const ProgramResult result =
        run_.Train(Flags{"--model=./model.json", "--steps=300", "--micro_batch=8", "--seq_len=32",
                         "--out=" + out} +
                   flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Losses(run_ / out);
  }

  const TinyRun run_;
};

TEST_P(Bf16TrainingTest, TheLossFollowsThatOfFp32) {
  const std::vector<double> fp32 = Train("fp32", {});
  ASSERT_EQ(fp32.size(), kSteps);
  // Otherwise the bound would prove nothing.
  ASSERT_GT(fp32.front() - fp32.back(), 20 * LossBound());
  for (const Flags& layout : {Flags{}, Flags{"--tp=2", "--dp=2", "--micro_batch=4"}}) {
    const std::vector<double> bf16 =
        Train("bf16" + std::to_string(layout.size()), Flags{"--dtype=bf16"} + layout);
    ASSERT_EQ(bf16.size(), kSteps);
    EXPECT_NE(bf16, fp32);
    for (int begin = 0; begin < kSteps; begin += kWindow) {
      EXPECT_NEAR(Mean(bf16, begin), Mean(fp32, begin), LossBound()) << "from step " << begin;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Bf16TrainingTest, ::testing::Values(kLlama, kGpt2),
                         [](const auto& info) { return info.param == kLlama ? "Llama" : "Gpt2"; });

TEST(Bf16GenerationTest, WritesTextFromABf16Checkpoint) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--dtype=bf16"}).exit_code, 0);
  EXPECT_THAT(testing::ReadFile(run / "run/step-8/config.json"), HasSubstr("bfloat16"));
  const Flags flags = {"--checkpoint=run", "--prompt=line", "--max_tokens=16", "--dtype=bf16"};
  const ProgramResult once = run.Run("tools/generate", flags);
  EXPECT_EQ(once.exit_code, 0) << once.err;
  EXPECT_GE(once.out.size(), 16);
  EXPECT_EQ(run.Run("tools/generate", flags).out, once.out);
}

}  // namespace
}  // namespace strake
