// One model, any layout: over a covering array of models and layouts, every loss, gradient norm,
// gradient and weight of several training steps is that of one rank, and each rank that holds an
// element has it.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "models/model_config.h"
#include "models/sliced_models.h"
#include "models/transformer.h"
#include "tests/full_tensors.h"
#include "tests/layout_case.h"
#include "tests/train_layout.h"

namespace strake {
namespace {

using testing::FullTensors;
using testing::LayoutCase;
using testing::RankRecord;
using testing::StepRecord;

// In f64 the limit is the one that is promised. In f32 it is computed: a number of the backward
// pass has gone through a chain of about 55 sums (12 in each of two blocks and 3 of the embedding,
// last norm and head, in both directions, and the weight gradient), each of at most n terms: the
// widths and the tokens of the batch. Two more sums, of the loss and the head's input gradient, are
// over the vocabulary. The roundings are independent of each other, so that they add up in
// quadrature; both runs make them; and the largest of a tensor's thousands of errors is about four
// times their root mean square. The weights of later steps differ by as much again per step.
double Tolerance(const LayoutCase& layout, int step) {
  if (layout.dtype == DType::kF64) return 1e-12;
  const double num_terms = std::max<double>(48, layout.GlobalBatch() * layout.kSeqLen);
  const double num_roundings = 2 * (55 * num_terms + 2 * layout.vocab_size);
  return 4 * step * std::sqrt(num_roundings) * testing::UnitRoundoff(DType::kF32);
}

// By definition: how many tensor-parallel ranks hold an element of this tensor.
int NumHolders(const LayoutCase& layout, const std::string& name) {
  for (const char* replicated : {"norm", "ln_", "wpe", "c_proj.bias"}) {
    if (absl::StrContains(name, replicated)) return layout.tp;
  }
  const bool kv = absl::StrContains(name, "k_proj") || absl::StrContains(name, "v_proj");
  return kv ? std::max<int>(1, layout.tp / layout.num_kv_heads) : 1;
}

// What all ranks have of an array of the index space, together.
template <typename RangeAndElements>
FullTensors Join(const LayoutCase& layout, const std::vector<RankRecord>& ranks,
                 const RangeAndElements& range_and_elements) {
  FullTensors full;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const MeshVector at = CoordinatesOf(layout.Sizes(), static_cast<int>(rank));
    const auto arena = testing::SlicedParameters(layout.Model(), at.tp, layout.tp);
    const auto [range, elements] = range_and_elements(ranks[rank]);
    full.Add(*arena, range, *elements);
  }
  return full;
}

FullTensors JoinGrads(const LayoutCase& layout, const std::vector<RankRecord>& ranks, int step) {
  return Join(layout, ranks, [&](const RankRecord& rank) {
    return std::pair(rank.range, &rank.steps[step - 1].grads);
  });
}

FullTensors JoinWeights(const LayoutCase& layout, const std::vector<RankRecord>& ranks) {
  return Join(layout, ranks, [](const RankRecord& rank) {
    return std::pair(ShardRange{0, static_cast<int64_t>(rank.weights.size())}, &rank.weights);
  });
}

double SquaredNorm(const FullTensors& full) {
  double sum = 0;
  for (const auto& [name, entry] : full.entries()) {
    for (const double x : entry.values) sum += x * x;
  }
  return sum;
}

// `dp_copies`: how many data-parallel ranks hold an element.
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
    // Infinite where all of the expected is 0.
    EXPECT_LE(testing::RelativeError(mine.values, entry.values), tolerance) << name;
    num_elements += static_cast<int64_t>(entry.values.size());
  }
  EXPECT_EQ(num_elements, NumParameters(layout.Model()));
}

void ExpectEqualSteps(const LayoutCase& layout, const std::vector<RankRecord>& ranks,
                      const std::vector<RankRecord>& one_rank, int step) {
  SCOPED_TRACE(::testing::Message() << "step " << step);
  const double tolerance = Tolerance(layout, step);
  const StepRecord& expected = one_rank[0].steps[step - 1];
  const StepRecord& first = ranks[0].steps[step - 1];
  EXPECT_NEAR(first.loss, expected.loss, tolerance * expected.loss);
  EXPECT_NEAR(first.norm, expected.norm, tolerance * expected.norm);
  EXPECT_GT(expected.norm, testing::kClipNorm);
  for (const RankRecord& rank : ranks) {
    EXPECT_EQ(rank.steps[step - 1].loss, first.loss);
    EXPECT_EQ(rank.steps[step - 1].norm, first.norm);
  }
  const FullTensors full = JoinGrads(layout.OnOneRank(), one_rank, step);
  EXPECT_NEAR(std::sqrt(SquaredNorm(full)), expected.norm, tolerance * expected.norm);
  ExpectEqual(layout, JoinGrads(layout, ranks, step), layout.zero > 0 ? 1 : layout.dp, full,
              tolerance);
}

class LayoutEqualityTest : public ::testing::TestWithParam<LayoutCase> {};

TEST_P(LayoutEqualityTest, TrainsTheModelOfOneRank) {
  const LayoutCase& layout = GetParam();
  const auto ranks = testing::TrainLayout(layout);
  const auto one_rank = testing::TrainLayout(layout.OnOneRank());
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  ASSERT_TRUE(one_rank.ok()) << one_rank.status();
  for (int step = 1; step <= testing::kNumTrainingSteps; ++step) {
    ExpectEqualSteps(layout, *ranks, *one_rank, step);
  }
  const double tolerance = Tolerance(layout, testing::kNumTrainingSteps + 1);
  ExpectEqual(layout, JoinWeights(layout, *ranks), layout.dp,
              JoinWeights(layout.OnOneRank(), *one_rank), tolerance);
  const double evaluation_loss = one_rank->front().evaluation_loss;
  for (const RankRecord& rank : *ranks) {
    EXPECT_NEAR(rank.evaluation_loss, evaluation_loss, tolerance * evaluation_loss);
  }
}

// Every model on every number of ranks it can be cut over, in f64, where the smallest mistake
// shows.
std::vector<LayoutCase> EveryModelOnEveryTp() {
  std::vector<LayoutCase> cases;
  for (const int tp : {2, 3, 4, 8}) {
    for (const int num_kv_heads : {0, 24, 12, 2, 1}) {
      for (const bool tied : {false, true}) {
        for (const bool sequence_parallel : {false, true}) {
          LayoutCase c = {.tied = tied, .tp = tp, .dp = 2, .sequence_parallel = sequence_parallel};
          if (num_kv_heads > 0) {
            c.family = ModelFamily::kLlama;
            c.num_kv_heads = num_kv_heads;
          }
          if (!CheckTensorParallel(c.Model(), tp).ok()) continue;
          c.zero = static_cast<int>(cases.size() % 3);
          c.num_micro_batches = 2;
          cases.push_back(c);
        }
      }
    }
  }
  return cases;
}

const auto kCaseName = [](const auto& info) { return info.param.ToString(); };

INSTANTIATE_TEST_SUITE_P(Models, LayoutEqualityTest, ::testing::ValuesIn(EveryModelOnEveryTp()),
                         kCaseName);
INSTANTIATE_TEST_SUITE_P(Layouts, LayoutEqualityTest,
                         ::testing::ValuesIn(testing::CoveringLayoutCases()), kCaseName);

}  // namespace
}  // namespace strake
