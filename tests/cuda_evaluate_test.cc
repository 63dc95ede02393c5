// Evaluation on an emulated GPU: the numbers of the CPU.
#include <cmath>
#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using nlohmann::json;
using testing::Flags;
using testing::ProgramResult;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;

json Evaluate(const TinyRun& run, const Flags& machine) {
  const Flags flags = {"--checkpoint=run", "--threads=1", "--data=val.txt,q.jsonl",
                       "--seq_len=8",      "--json",      "--items"};
  const ProgramResult result = run.Run("tools/evaluate_emulated", flags + machine);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return json::parse(result.out);
}

// Roundings, each with a root mean square of a unit over sqrt(3), add up in quadrature; the largest
// of many of their sums is about four times the root mean square. f32 rounds each of the at most 48
// terms of the about 14 products that a logit comes from; bf16 rounds each product and each weight.
// A loss has its logit's error and its normalizer's, for logits of at most 2.
double LossTolerance(const std::string& dtype) {
  const double relative = dtype == "bf16" ? 4 * std::sqrt(2 * 14 / 3.0) * 0x1p-8
                                          : 4 * std::sqrt(14 * 48 / 3.0) * 0x1p-24;
  return relative * 2 * 2;
}

TEST(CudaEvaluateTest, GivesTheNumbersOfTheCpu) {
  const TinyRun run;
  WriteFile(run / "val.txt", testing::ReadFile(run / "text.txt").substr(0, 301));
  WriteFile(run / "q.jsonl",
            R"({"context": "line 4: the planks", "choices": [" of", " zq", "x"], "answer": 0})");
  ASSERT_EQ(run.Train().exit_code, 0);
  const json cpu = Evaluate(run, {"--device=cpu"});
  for (const std::string dtype : {"fp32", "bf16"}) {
    for (const Flags& layout : {Flags{}, Flags{"--tp=2"}, Flags{"--dp=2"}}) {
      const json gpu = Evaluate(run, Flags{"--device=cuda", "--dtype=" + dtype} + layout);
      EXPECT_NEAR(gpu["loss"], cpu["loss"], LossTolerance(dtype)) << dtype;
      EXPECT_EQ(gpu["tokens"], 300);
      for (int i = 0; i < 3; ++i) {
        // Of at most four tokens.
        EXPECT_NEAR(gpu["tasks"][0]["items"][0]["log_likelihoods"][i],
                    cpu["tasks"][0]["items"][0]["log_likelihoods"][i], 4 * LossTolerance(dtype));
      }
    }
  }
}

}  // namespace
}  // namespace strake
