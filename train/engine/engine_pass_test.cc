#include "train/engine/engine_pass.h"

#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(EnginePassTest, DiffersWhereAnyInputDoes) {
  int memory[2] = {};
  const TokenPlace batch = {&memory[0], &memory[1], 8};
  const TokenPlace elsewhere = {&memory[1], &memory[1], 8};
  const TokenPlace other_targets = {&memory[0], &memory[0], 8};
  const TokenPlace shorter = {&memory[0], &memory[1], 7};
  const TokenPlace packed = {&memory[0], &memory[1], 8, &memory[0], true};
  const TokenPlace packed_elsewhere = {&memory[0], &memory[1], 8, &memory[1], true};
  const std::vector<EnginePass> passes = {
      TrainPass{batch, 0.5, false, false},
      TrainPass{elsewhere, 0.5, false, false},
      TrainPass{other_targets, 0.5, false, false},
      TrainPass{shorter, 0.5, false, false},
      TrainPass{packed, 0.5, false, false},
      TrainPass{packed_elsewhere, 0.5, false, false},
      TrainPass{batch, 0.25, false, false},
      TrainPass{batch, 0.5, true, false},
      TrainPass{batch, 0.5, false, true},
      TrainPass{batch, 0.5, false, false, true},
      EvaluatePass{batch},
      EvaluatePass{elsewhere},
      EvaluatePass{other_targets},
      EvaluatePass{shorter},
      SumGradientsPass{},
      UpdatePass{1},
      UpdatePass{2},
  };
  for (size_t i = 0; i < passes.size(); ++i) {
    for (size_t j = 0; j < passes.size(); ++j) EXPECT_EQ(passes[i] == passes[j], i == j) << i << j;
  }
}

}  // namespace
}  // namespace strake
