#include <algorithm>
#include <array>
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

// What a stage has for its passes.
struct Reuse {
  int posted_ahead = 0;   // actions before the one that takes a gradient when its receive is posted
  int extra_regions = 0;  // regions of memory beyond a chunk's peak in flight
};

// Executes actions where the memory of a pass is used again by a later one of its chunk, in turn:
// that waits until the gradient in it, which was sent, is being received.
class ReuseSimulator {
 public:
  ReuseSimulator(const PipelineShape& shape, const Reuse& reuse)
      : shape_(shape),
        reuse_(reuse),
        actions_(AllActions(shape)),
        regions_(num_parts(), 0),
        next_(shape.stages, 0) {
    for (std::vector<int>& indices : index_) indices.resize(num_parts() * shape.micro_batches);
    for (int stage = 0; stage < shape.stages; ++stage) {
      const Actions& actions = actions_[stage];
      std::vector<int> in_flight(shape.chunks, 0);
      for (size_t i = 0; i < actions.size(); ++i) {
        const int part = PipelinePart(shape_, stage, actions[i].chunk);
        if (actions[i].pass == PipelinePass::kForward) ++in_flight[actions[i].chunk];
        regions_[part] = std::max(regions_[part], in_flight[actions[i].chunk]);
        if (actions[i].pass == PipelinePass::kWeightGradient) --in_flight[actions[i].chunk];
        IndexOf(actions[i].pass, actions[i].micro_batch, part) = static_cast<int>(i);
      }
    }
  }

  // "stage 0 at F1.1" of each stage that waits for ever.
  std::string Stuck() {
    for (bool progress = true; progress;) {
      progress = false;
      for (int stage = 0; stage < shape_.stages; ++stage) {
        while (next_[stage] < NumActions(stage) && CanBegin(stage, NextOf(stage))) {
          ++next_[stage];
          progress = true;
        }
      }
    }
    std::string stuck;
    for (int stage = 0; stage < shape_.stages; ++stage) {
      if (next_[stage] == NumActions(stage)) continue;
      absl::StrAppend(&stuck, " stage ", stage, " at ", Text({NextOf(stage)}));
    }
    return stuck;
  }

 private:
  int num_parts() const { return shape_.stages * shape_.chunks; }
  int NumActions(int stage) const { return static_cast<int>(actions_[stage].size()); }
  const PipelineAction& NextOf(int stage) const { return actions_[stage][next_[stage]]; }
  int& IndexOf(PipelinePass pass, int micro_batch, int part) {
    return index_[static_cast<int>(pass)][micro_batch * num_parts() + part];
  }
  bool Done(PipelinePass pass, int micro_batch, int part) {
    return next_[part % shape_.stages] > IndexOf(pass, micro_batch, part);
  }

  bool CanBegin(int stage, const PipelineAction& action) {
    const int part = PipelinePart(shape_, stage, action.chunk);
    switch (action.pass) {
      case PipelinePass::kForward:
        if (!RegionIsFree(action.micro_batch, part)) return false;
        return part == 0 || Done(action.pass, action.micro_batch, part - 1);
      case PipelinePass::kInputGradient:
        return part == num_parts() - 1 || Done(action.pass, action.micro_batch, part + 1);
      case PipelinePass::kWeightGradient:
        return true;
    }
    return false;
  }

  bool RegionIsFree(int micro_batch, int part) {
    micro_batch -= regions_[part] + reuse_.extra_regions;
    if (micro_batch < 0 || part == 0 || shape_.stages == 1) return true;
    const int receiver = (part - 1) % shape_.stages;
    return next_[receiver] + reuse_.posted_ahead >=
           IndexOf(PipelinePass::kInputGradient, micro_batch, part - 1);
  }

  const PipelineShape shape_;
  const Reuse reuse_;
  const std::vector<Actions> actions_;
  std::vector<int> regions_;               // peak in flight, by part
  std::vector<int> next_;                  // actions done, by stage
  std::array<std::vector<int>, 3> index_;  // by pass: of an action in its stage's list
};

// Calls `check` with every shape, and for zero_bubble with more passes in flight, too.
void ForAllShapesInFlight(const std::function<void(const PipelineShape&)>& check) {
  ForAllShapes([&](PipelineShape shape) {
    check(shape);
    if (shape.kind != PipelineKind::kZeroBubble) return;
    for (const int more : {1, shape.stages}) {
      shape.in_flight = MinInFlight(shape) + more;
      check(shape);
    }
  });
}

std::string Describe(const PipelineShape& shape) {
  return absl::StrCat(PipelineKindName(shape.kind), ", ", shape.stages, " stages, ", shape.chunks,
                      " chunks, ", shape.micro_batches, " micro-batches, in flight ",
                      shape.in_flight);
}

TEST(PipelineMemory, IsUsedAgainWhereReceivesArePostedOneActionAhead) {
  ForAllShapesInFlight([](const PipelineShape& shape) {
    EXPECT_EQ(ReuseSimulator(shape, {.posted_ahead = 1}).Stuck(), "") << Describe(shape);
  });
}

TEST(PipelineMemory, IsUsedAgainWhereAChunkHasARegionMore) {
  ForAllShapesInFlight([](const PipelineShape& shape) {
    EXPECT_EQ(ReuseSimulator(shape, {.extra_regions = 1}).Stuck(), "") << Describe(shape);
  });
}

// Groups of micro-batches of the same size need neither.
TEST(PipelineMemory, IsUsedAgainWhereStagesDivideMicroBatches) {
  ForAllShapesInFlight([](const PipelineShape& shape) {
    if (shape.chunks > 1 && shape.micro_batches % shape.stages != 0) return;
    EXPECT_EQ(ReuseSimulator(shape, {}).Stuck(), "") << Describe(shape);
  });
}

// The smallest shape in which one of the two is needed. Stage 0 waits until stage 1 receives the
// gradient of micro-batch 0 in part 2, and stage 1 for what stage 0 then sends.
TEST(PipelineMemory, CanDeadlockWhereReceivesArePostedLate) {
  for (const PipelineKind kind : {PipelineKind::kInterleaved, PipelineKind::kZeroBubble}) {
    EXPECT_EQ(ReuseSimulator({kind, 2, 3, 5}, {}).Stuck(), " stage 0 at F4.1 stage 1 at F4.1");
  }
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
  EXPECT_THAT(error({PipelineKind::k1f1b, 2, 3, 4}),
              HasSubstr("not 3: with several it is called interleaved"));
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
