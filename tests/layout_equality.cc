#include "tests/layout_equality.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "models/sliced_models.h"
#include "models/transformer.h"
#include "parallel/data/gradient_buckets.h"

namespace strake::testing {
namespace {

// By definition: the number of tensor-parallel ranks that hold an element of this tensor.
int NumHolders(const LayoutCase& layout, const std::string& name) {
  for (const char* replicated : {"norm", "ln_", "wpe", "c_proj.bias"}) {
    if (absl::StrContains(name, replicated)) return layout.tp;
  }
  const bool kv = absl::StrContains(name, "k_proj") || absl::StrContains(name, "v_proj");
  return kv ? std::max<int>(1, layout.tp / layout.num_kv_heads) : 1;
}

// Assembles all ranks' parts of an array of the index space.
template <typename RangesAndElements>
FullTensors Join(const LayoutCase& layout, const std::vector<RankRecord>& ranks,
                 const RangesAndElements& ranges_and_elements) {
  FullTensors full;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const MeshVector at = CoordinatesOf(layout.Sizes(), static_cast<int>(rank));
    const auto arena = SlicedParameters(layout.Model(), at.tp, layout.tp);
    const EngineOptions options = layout.Options();
    PadBuckets(arena.get(), options.dtype, layout.dp, options.gradients);
    const auto [ranges, elements] = ranges_and_elements(ranks[rank]);
    auto begin = elements->begin();
    for (const ShardRange& range : ranges) {
      full.Add(*arena, range, {begin, begin + range.size()});
      begin += range.size();
    }
    EXPECT_TRUE(begin == elements->end());
  }
  return full;
}

}  // namespace

FullTensors JoinGrads(const LayoutCase& layout, const std::vector<RankRecord>& ranks, int step) {
  return Join(layout, ranks, [&](const RankRecord& rank) {
    return std::pair(rank.ranges, &rank.steps[step - 1].grads);
  });
}

FullTensors JoinWeights(const LayoutCase& layout, const std::vector<RankRecord>& ranks) {
  return Join(layout, ranks, [](const RankRecord& rank) {
    const ShardRange all{0, static_cast<int64_t>(rank.weights.size())};
    return std::pair(std::vector<ShardRange>{all}, &rank.weights);
  });
}

namespace {

double SquaredNorm(const FullTensors& full) {
  double sum = 0;
  for (const auto& [name, entry] : full.entries()) {
    for (const double x : entry.values) sum += x * x;
  }
  return sum;
}

// `dp_copies`: the number of data-parallel ranks that hold an element.
void ExpectEqual(const LayoutCase& layout, const FullTensors& actual, int dp_copies,
                 const FullTensors& expected, double tolerance) {
  int64_t num_elements = 0;
  ASSERT_EQ(actual.entries().size(), expected.entries().size());
  for (const auto& [name, entry] : expected.entries()) {
    ASSERT_EQ(actual.entries().count(name), 1) << name;
    const FullTensors::Entry& mine = actual.entries().at(name);
    EXPECT_EQ(mine.num_copies,
              std::vector<int>(entry.values.size(), dp_copies * NumHolders(layout, name)))
        << name;
    // Infinite where all expected values are 0.
    EXPECT_LE(RelativeError(mine.values, entry.values), tolerance) << name;
    num_elements += static_cast<int64_t>(entry.values.size());
  }
  EXPECT_EQ(num_elements, NumParameters(layout.Model()));
}

void ExpectEqualSteps(const LayoutCase& layout, const std::vector<RankRecord>& ranks,
                      const std::vector<RankRecord>& one_rank, int step,
                      const StepTolerance& tolerance_at) {
  SCOPED_TRACE(::testing::Message() << "step " << step);
  const double tolerance = tolerance_at(step);
  const StepRecord& expected = one_rank[0].steps[step - 1];
  const StepRecord& first = ranks[0].steps[step - 1];
  EXPECT_NEAR(first.loss, expected.loss, tolerance * expected.loss);
  EXPECT_NEAR(first.norm, expected.norm, tolerance * expected.norm);
  EXPECT_GT(expected.norm, kClipNorm);
  for (const RankRecord& rank : ranks) {
    EXPECT_EQ(rank.steps[step - 1].loss, first.loss);
    EXPECT_EQ(rank.steps[step - 1].norm, first.norm);
  }
  const FullTensors full = JoinGrads(layout.OnOneRank(), one_rank, step);
  EXPECT_NEAR(std::sqrt(SquaredNorm(full)), expected.norm, tolerance * expected.norm);
  ExpectEqual(layout, JoinGrads(layout, ranks, step), layout.zero > 0 ? 1 : layout.dp, full,
              tolerance);
}

}  // namespace

void ExpectTrainsTheModelOfOneRank(const LayoutCase& layout, const LayoutCase& one_rank_layout,
                                   const StepTolerance& tolerance_at) {
  const auto ranks = TrainLayout(layout);
  const auto one_rank = TrainLayout(one_rank_layout);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  ASSERT_TRUE(one_rank.ok()) << one_rank.status();
  for (int step = 1; step <= kNumTrainingSteps; ++step) {
    ExpectEqualSteps(layout, *ranks, *one_rank, step, tolerance_at);
  }
  const double tolerance = tolerance_at(kNumTrainingSteps + 1);
  ExpectEqual(layout, JoinWeights(layout, *ranks), layout.dp,
              JoinWeights(layout.OnOneRank(), *one_rank), tolerance);
  const double evaluation_loss = one_rank->front().evaluation_loss;
  for (const RankRecord& rank : *ranks) {
    EXPECT_NEAR(rank.evaluation_loss, evaluation_loss, tolerance * evaluation_loss);
  }
}

}  // namespace strake::testing
