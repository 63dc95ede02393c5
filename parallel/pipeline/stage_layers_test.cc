#include "parallel/pipeline/stage_layers.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

LayerCosts Equal(int64_t layers, double first = 0, double last = 0) {
  return {std::vector<double>(layers, 1.0), first, last};
}

std::vector<int64_t> Spread(const LayerCosts& costs, int stages, int chunks = 1) {
  const auto counts = SpreadLayers(costs, stages, chunks);
  EXPECT_TRUE(counts.ok()) << counts.status();
  return counts.value_or(std::vector<int64_t>());
}

double Dearest(const LayerCosts& costs, const std::vector<int64_t>& counts) {
  double dearest = 0;
  const int parts = static_cast<int>(counts.size());
  for (int part = 0; part < parts; ++part) {
    const LayerRange range = LayersOfPart(counts, part);
    double cost = (part == 0 ? costs.first : 0) + (part == parts - 1 ? costs.last : 0);
    for (int64_t i = range.begin; i < range.end; ++i) cost += costs.layers[i];
    dearest = std::max(dearest, cost);
  }
  return dearest;
}

// Tries all cuts of the layers from `begin` on.
double LeastDearest(const LayerCosts& costs, int parts, std::vector<int64_t>* counts) {
  const int64_t done = std::accumulate(counts->begin(), counts->end(), int64_t{0});
  const int64_t left = static_cast<int64_t>(costs.layers.size()) - done;
  if (parts == 1) {
    counts->push_back(left);
    const double dearest = Dearest(costs, *counts);
    counts->pop_back();
    return dearest;
  }
  double least = std::numeric_limits<double>::infinity();
  for (int64_t n = 1; n <= left - (parts - 1); ++n) {
    counts->push_back(n);
    least = std::min(least, LeastDearest(costs, parts - 1, counts));
    counts->pop_back();
  }
  return least;
}

TEST(StageLayers, AreSpreadEvenly) {
  EXPECT_THAT(Spread(Equal(12), 1), ElementsAre(12));
  EXPECT_THAT(Spread(Equal(12), 4), ElementsAre(3, 3, 3, 3));
  EXPECT_THAT(Spread(Equal(4), 4), ElementsAre(1, 1, 1, 1));
  std::vector<int64_t> counts = Spread(Equal(10), 4);
  std::sort(counts.begin(), counts.end());
  EXPECT_THAT(counts, ElementsAre(2, 2, 3, 3));
}

TEST(StageLayers, TheHeadCountsOnTheLastStage) {
  // GPT-2 with 124 million parameters: its head has the FLOPs of 5.4 layers.
  EXPECT_THAT(Spread(Equal(12, 0, 5.4), 2), ElementsAre(9, 3));
  EXPECT_THAT(Spread(Equal(12, 0, 100), 3), ElementsAre(5, 6, 1)) << "the others are even";
  EXPECT_THAT(Spread(Equal(12, 4, 4), 2), ElementsAre(6, 6));
}

TEST(StageLayers, ChunksOfAStageCountTogether) {
  EXPECT_THAT(Spread(Equal(8), 2, 2), ElementsAre(2, 2, 2, 2));
  // 9 and 3 layers, as with one chunk.
  EXPECT_THAT(Spread(Equal(12, 0, 5.4), 2, 2), ElementsAre(5, 2, 4, 1));
  EXPECT_THAT(Spread(Equal(6, 0, 50), 2, 3), ElementsAre(1, 1, 1, 1, 1, 1));
}

TEST(StageLayers, TheDearestStageCostsAsLittleAsItCan) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform(0.1, 3);
  for (int i = 0; i < 50; ++i) {
    LayerCosts costs;
    for (int layer = 0; layer < 9; ++layer) costs.layers.push_back(uniform(random));
    costs.first = uniform(random);
    costs.last = 2 * uniform(random);
    for (int stages = 1; stages <= 4; ++stages) {
      std::vector<int64_t> none;
      EXPECT_NEAR(Dearest(costs, Spread(costs, stages)), LeastDearest(costs, stages, &none), 1e-9);
    }
  }
}

TEST(StageLayers, WhatDoesNotFitIsNamed) {
  EXPECT_THAT(std::string(SpreadLayers(Equal(3), 4, 1).status().message()),
              HasSubstr("3 layers cannot be spread over 4 stages; at most 3 stages"));
  EXPECT_THAT(std::string(SpreadLayers(Equal(7), 4, 2).status().message()),
              HasSubstr("7 layers cannot be spread over 4 stages of 2 chunks; at most 3 stages"));
  EXPECT_TRUE(CheckStageLayers({9, 3}, 12, 2, 1).ok());
  for (const std::vector<int64_t>& counts :
       std::vector<std::vector<int64_t>>{{9, 2}, {12, 0}, {13, -1}, {12}, {4, 4, 4}, {}}) {
    const absl::Status status = CheckStageLayers(counts, 12, 2, 1);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the model has 12 layers, in 2 stages"));
  }
  // Their sum is 12 modulo 2^64.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(std::string(CheckStageLayers({kMost, kMost, 14}, 12, 3, 1).message()),
              HasSubstr("are 3 parts of 18446744073709551628 layers, but the model has 12"));
  EXPECT_EQ(LayersOfPart({9, 3}, 1), (LayerRange{9, 12}));
}

}  // namespace
}  // namespace strake
