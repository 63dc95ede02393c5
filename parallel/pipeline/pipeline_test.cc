#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/pipeline/schedule.h"
#include "parallel/pipeline/simulation.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Actions = std::vector<PipelineAction>;

// "F0 F1 B0 W0", with a chunk other than 0 behind a point.
std::string Text(const Actions& actions) {
  std::string text;
  for (const PipelineAction& a : actions) {
    absl::StrAppend(&text, text.empty() ? "" : " ", std::string(1, "FBW"[static_cast<int>(a.pass)]),
                    a.micro_batch, a.chunk > 0 ? absl::StrCat(".", a.chunk) : "");
  }
  return text;
}

std::vector<Actions> AllActions(const PipelineShape& shape) {
  std::vector<Actions> actions;
  for (int stage = 0; stage < shape.stages; ++stage) {
    actions.push_back(PipelineActions(shape, stage));
  }
  return actions;
}

PipelineSimulation Simulate(const PipelineShape& shape, const PipelineCosts& costs = {}) {
  const auto simulation = SimulatePipeline(shape, costs);
  EXPECT_TRUE(simulation.ok()) << simulation.status();
  return simulation.value_or(PipelineSimulation());
}

TEST(PipelineSchedule, IsAsThePapersDrawIt) {
  EXPECT_EQ(Text(PipelineActions({PipelineKind::kGpipe, 2, 1, 3}, 1)),
            "F0 F1 F2 B0 W0 B1 W1 B2 W2");
  EXPECT_EQ(Text(PipelineActions({PipelineKind::k1f1b, 2, 1, 3}, 0)), "F0 F1 B0 W0 F2 B1 W1 B2 W2");
  EXPECT_EQ(Text(PipelineActions({PipelineKind::k1f1b, 2, 1, 3}, 1)), "F0 B0 W0 F1 B1 W1 F2 B2 W2");
  EXPECT_EQ(Text(PipelineActions({PipelineKind::kInterleaved, 2, 2, 2}, 1)),
            "F0 F1 F0.1 B0.1 W0.1 F1.1 B1.1 W1.1 B0 W0 B1 W1");
  EXPECT_EQ(Text(PipelineActions({PipelineKind::kZeroBubble, 2, 1, 4}, 0)),
            "F0 F1 B0 W0 F2 B1 W1 F3 B2 W2 B3 W3");
  EXPECT_EQ(Text(PipelineActions({PipelineKind::kZeroBubble, 2, 1, 4}, 1)),
            "F0 B0 F1 B1 W0 F2 B2 W1 F3 B3 W2 W3");
}

TEST(PipelineSchedule, SendsToTheNextPartAndBack) {
  const PipelineShape shape = {PipelineKind::kInterleaved, 3, 2, 3};
  EXPECT_EQ(PipelineSource(shape, 0, {PipelinePass::kForward, 0, 0}), std::nullopt);
  EXPECT_EQ(PipelineSource(shape, 0, {PipelinePass::kForward, 0, 1}), 2);
  EXPECT_EQ(PipelineTarget(shape, 2, {PipelinePass::kForward, 0, 0}), 0);
  EXPECT_EQ(PipelineTarget(shape, 2, {PipelinePass::kForward, 0, 1}), std::nullopt);
  EXPECT_EQ(PipelineSource(shape, 2, {PipelinePass::kInputGradient, 0, 1}), std::nullopt);
  EXPECT_EQ(PipelineSource(shape, 2, {PipelinePass::kInputGradient, 0, 0}), 0);
  EXPECT_EQ(PipelineTarget(shape, 0, {PipelinePass::kInputGradient, 0, 1}), 2);
  EXPECT_EQ(PipelineTarget(shape, 0, {PipelinePass::kInputGradient, 0, 0}), std::nullopt);
  EXPECT_EQ(PipelineTarget(shape, 1, {PipelinePass::kWeightGradient, 0, 0}), std::nullopt);
}

// No weight gradient of a chunk comes before that of an earlier micro-batch.
void ExpectOrderOfOneRank(const PipelineShape& shape, const Actions& actions) {
  std::vector<int> next(shape.chunks, 0);
  for (const PipelineAction& action : actions) {
    if (action.pass != PipelinePass::kWeightGradient) continue;
    EXPECT_EQ(action.micro_batch, next[action.chunk]++);
  }
}

// Calls `check` with every shape that can be.
int ForAllShapes(const std::function<void(const PipelineShape&)>& check) {
  int num_shapes = 0;
  for (const PipelineKind kind : kPipelineKinds) {
    for (int stages = 1; stages <= 16; ++stages) {
      for (int chunks = 1; chunks <= 4; ++chunks) {
        for (int m = 1; m <= 64; ++m) {
          const PipelineShape shape = {kind, stages, chunks, m};
          if (!CheckPipelineShape(shape).ok()) continue;
          check(shape);
          ++num_shapes;
        }
      }
    }
  }
  return num_shapes;
}

TEST(PipelineSchedule, CanBeDoneInAnyShape) {
  const int num_shapes = ForAllShapes([](const PipelineShape& shape) {
    SCOPED_TRACE(absl::StrCat(PipelineKindName(shape.kind), ", ", shape.stages, " stages, ",
                              shape.chunks, " chunks, ", shape.micro_batches, " micro-batches"));
    const PipelineSimulation simulation = Simulate(shape);
    const int passes = shape.micro_batches * shape.chunks;
    const int most = shape.kind == PipelineKind::kGpipe ? passes : MinInFlight(shape);
    for (int stage = 0; stage < shape.stages; ++stage) {
      EXPECT_LE(simulation.peak_in_flight.at(stage), std::min(passes, most));
      ExpectOrderOfOneRank(shape, PipelineActions(shape, stage));
    }
  });
  // Several chunks need as many micro-batches as stages, and are not for 1f1b.
  EXPECT_EQ(num_shapes, 4 * 16 * 64 + 3 * 3 * (16 * 64 - 16 * 15 / 2));
}

// Passes take the same time, and the backward pass is one of them.
TEST(PipelineSchedule, IdleShareIsTheFormula) {
  const PipelineCosts two_passes = {.weight_gradient = 0};
  for (int stages = 1; stages <= 16; ++stages) {
    for (int m = stages; m <= 64; m += stages) {
      const double ends = stages - 1;
      EXPECT_NEAR(Simulate({PipelineKind::k1f1b, stages, 1, m}, two_passes).IdleShare(),
                  ends / (m + ends), 1e-12);
      EXPECT_NEAR(Simulate({PipelineKind::kGpipe, stages, 1, m}, two_passes).IdleShare(),
                  ends / (m + ends), 1e-12);
      for (int chunks = 2; chunks <= 4; ++chunks) {
        EXPECT_NEAR(
            Simulate({PipelineKind::kInterleaved, stages, chunks, m}, two_passes).IdleShare(),
            ends / (m * chunks + ends), 1e-12);
      }
      // The last stage cannot begin earlier, and does 3 m passes.
      EXPECT_NEAR(Simulate({PipelineKind::kZeroBubble, stages, 1, m}).time, 3 * m + ends, 1e-12);
    }
  }
}

TEST(PipelineSchedule, ZeroBubbleHalvesTheBubble) {
  const double of_1f1b =
      Simulate({PipelineKind::k1f1b, 4, 1, 8}, {.weight_gradient = 0}).IdleShare();
  EXPECT_NEAR(of_1f1b, 3.0 / 11, 1e-12);
  EXPECT_NEAR(Simulate({PipelineKind::kZeroBubble, 4, 1, 8}).IdleShare(), 3.0 / 27, 1e-12);
}

TEST(PipelineSchedule, HoldsAsManyPassesAsItIsGiven) {
  EXPECT_THAT(Simulate({PipelineKind::k1f1b, 4, 1, 16}).peak_in_flight, ElementsAre(4, 3, 2, 1));
  EXPECT_THAT(Simulate({PipelineKind::kInterleaved, 4, 2, 16}).peak_in_flight,
              ElementsAre(11, 9, 7, 5));
  for (int in_flight = 4; in_flight <= 9; ++in_flight) {
    EXPECT_THAT(Simulate({PipelineKind::kZeroBubble, 4, 1, 16, in_flight}).peak_in_flight,
                ElementsAre(in_flight, in_flight, in_flight, in_flight));
  }
}

// Stages that run ahead wait less for slow transfers.
TEST(PipelineSchedule, PassesInFlightHideTransfers) {
  const PipelineCosts costs = {.transfer = 0.5};
  const double least = Simulate({PipelineKind::kZeroBubble, 4, 1, 32, 4}, costs).time;
  const double more = Simulate({PipelineKind::kZeroBubble, 4, 1, 32, 7}, costs).time;
  EXPECT_LT(more, least);
  EXPECT_NEAR(more, 3 * 32 + 3 * 1.5, 1e-12);
}

TEST(PipelineSchedule, RefusesWhatCannotBe) {
  const auto error = [](const PipelineShape& shape) {
    return std::string(CheckPipelineShape(shape).message());
  };
  EXPECT_THAT(error({PipelineKind::k1f1b, 0, 1, 4}), HasSubstr("0 stages"));
  EXPECT_THAT(error({PipelineKind::k1f1b, 2, 3, 4}), HasSubstr("not 3: interleaved"));
  EXPECT_THAT(error({PipelineKind::kInterleaved, 4, 2, 3}),
              AllOf(HasSubstr("3 are fewer than 4"), HasSubstr("at most 3 stages")));
  EXPECT_THAT(error({PipelineKind::k1f1b, 4, 1, 8, 5}), HasSubstr("for zero_bubble alone"));
  EXPECT_THAT(error({PipelineKind::kZeroBubble, 4, 1, 8, 3}),
              HasSubstr("at least 4 passes in flight, and not 3"));
}

class BadSchedule : public ::testing::Test {
 protected:
  std::string Error() const {
    return std::string(
        SimulatePipeline(shape_, actions_, [](int) { return PipelineCosts(); }).status().message());
  }

  const PipelineShape shape_ = {PipelineKind::k1f1b, 2, 1, 3};
  std::vector<Actions> actions_ = AllActions(shape_);
};

TEST_F(BadSchedule, LacksAnAction) {
  actions_[1].pop_back();
  EXPECT_EQ(Error(), "stage 1: does 8 actions, where there are 9");
}

TEST_F(BadSchedule, DoesAnActionTwice) {
  actions_[0].back() = actions_[0].front();
  EXPECT_EQ(Error(), "stage 0: forward pass of micro-batch 0: is done twice");
}

TEST_F(BadSchedule, HasNoSuchMicroBatch) {
  actions_[0].back().micro_batch = 3;
  EXPECT_EQ(Error(), "stage 0: weight gradient of micro-batch 3: there is none");
}

TEST_F(BadSchedule, ComesBeforeWhatItNeeds) {
  std::swap(actions_[1][0], actions_[1][1]);
  EXPECT_EQ(Error(),
            "stage 1: input gradient of micro-batch 0: comes before the forward pass of "
            "micro-batch 0");
}

TEST_F(BadSchedule, TakesInAnotherOrder) {
  std::swap(actions_[0][0], actions_[0][1]);
  EXPECT_EQ(Error(),
            "stage 1: forward pass of micro-batch 0: stage 0 sends what micro-batch 1 needs in "
            "part 1 before");
}

TEST_F(BadSchedule, WaitsForEachOther) {
  // Stage 0 wants the gradient of micro-batch 0 before it sends micro-batch 1, and stage 1 both.
  actions_[0] = PipelineActions({PipelineKind::k1f1b, 1, 1, 3}, 0);
  actions_[1] = PipelineActions({PipelineKind::kGpipe, 2, 1, 3}, 1);
  EXPECT_EQ(Error(),
            "stages wait for each other: stage 0 for what the input gradient of micro-batch 0 "
            "takes, stage 1 for what the forward pass of micro-batch 1 takes");
}

}  // namespace
}  // namespace strake
