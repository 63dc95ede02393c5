#include "optim/lr_schedule.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

// Sizes and rates are powers of two or small multiples of them, so that products are exact.
LrSchedule Make(ScheduleKind kind, int64_t warmup_steps, int64_t total_steps) {
  return {.kind = kind,
          .lr = 1,
          .min_lr = 0.25,
          .warmup_steps = warmup_steps,
          .total_steps = total_steps};
}

constexpr ScheduleKind kAll[] = {ScheduleKind::kConstant, ScheduleKind::kLinear,
                                 ScheduleKind::kCosine, ScheduleKind::kWsd};

TEST(LrScheduleTest, WarmUpRisesLinearlyToTheRate) {
  for (const ScheduleKind kind : kAll) {
    const LrSchedule schedule = Make(kind, 4, 20);
    EXPECT_EQ(LearningRate(schedule, 1), 0.25);
    EXPECT_EQ(LearningRate(schedule, 2), 0.5);
    EXPECT_EQ(LearningRate(schedule, 4), 1);
  }
}

TEST(LrScheduleTest, TheFirstStepAfterWarmUpHasTheWholeRate) {
  for (const ScheduleKind kind : kAll) {
    for (const int64_t warmup_steps : {0, 3}) {
      EXPECT_EQ(LearningRate(Make(kind, warmup_steps, 20), warmup_steps + 1), 1)
          << ScheduleKindName(kind);
      EXPECT_EQ(LearningRate(Make(kind, warmup_steps, warmup_steps + 1), warmup_steps + 1), 1)
          << ScheduleKindName(kind);
    }
  }
}

TEST(LrScheduleTest, NoStepHasTheMinimum) {
  for (const ScheduleKind kind : kAll) {
    const double end = kind == ScheduleKind::kConstant ? 1 : 0.25;
    for (const int64_t warmup_steps : {0, 3}) {
      const LrSchedule schedule = Make(kind, warmup_steps, 20);
      for (int64_t step = warmup_steps + 1; step <= 20; ++step) {
        EXPECT_GT(LearningRate(schedule, step), 0.25) << ScheduleKindName(kind) << ' ' << step;
      }
      EXPECT_EQ(LearningRate(schedule, 21), end) << ScheduleKindName(kind);
      EXPECT_EQ(LearningRate(schedule, 22), end) << ScheduleKindName(kind);
    }
  }
}

TEST(LrScheduleTest, Linear) {
  const LrSchedule schedule = Make(ScheduleKind::kLinear, 4, 12);
  EXPECT_EQ(LearningRate(schedule, 7), 0.8125);
  EXPECT_EQ(LearningRate(schedule, 9), 0.625);
  EXPECT_EQ(LearningRate(schedule, 12), 0.34375);
}

TEST(LrScheduleTest, Cosine) {
  const LrSchedule schedule = Make(ScheduleKind::kCosine, 0, 12);
  // cos(pi/3) = 1/2, cos(pi/2) = 0, cos(2 pi/3) = -1/2; a rounding or two of numbers below 1.
  EXPECT_NEAR(LearningRate(schedule, 5), 0.8125, 4 * 0x1p-53);
  EXPECT_NEAR(LearningRate(schedule, 7), 0.625, 4 * 0x1p-53);
  EXPECT_NEAR(LearningRate(schedule, 9), 0.4375, 4 * 0x1p-53);
}

TEST(LrScheduleTest, WsdIsStableUntilTheLastFifth) {
  const LrSchedule schedule = Make(ScheduleKind::kWsd, 2, 20);
  for (int64_t step = 2; step <= 17; ++step) EXPECT_EQ(LearningRate(schedule, step), 1);
  EXPECT_EQ(LearningRate(schedule, 18), 0.8125);
  EXPECT_EQ(LearningRate(schedule, 19), 0.625);
  EXPECT_EQ(LearningRate(schedule, 20), 0.4375);
}

TEST(LrScheduleTest, WsdDecaysAfterALongWarmUpAndInShortRuns) {
  const LrSchedule schedule = Make(ScheduleKind::kWsd, 18, 20);
  EXPECT_EQ(LearningRate(schedule, 18), 1);
  EXPECT_EQ(LearningRate(schedule, 19), 1);
  EXPECT_EQ(LearningRate(schedule, 20), 0.625);
  // The last fifth of six steps is two.
  EXPECT_EQ(LearningRate(Make(ScheduleKind::kWsd, 0, 6), 5), 1);
  EXPECT_EQ(LearningRate(Make(ScheduleKind::kWsd, 0, 6), 6), 0.625);
}

TEST(LrScheduleTest, WarmUpAsLongAsTheRunOrLonger) {
  for (const ScheduleKind kind : kAll) {
    EXPECT_EQ(LearningRate(Make(kind, 8, 8), 8), 1);
    EXPECT_EQ(LearningRate(Make(kind, 8, 4), 4), 0.5);
  }
}

TEST(LrScheduleTest, NamesReadBack) {
  for (const ScheduleKind kind : kAll) {
    EXPECT_EQ(ParseScheduleKind(ScheduleKindName(kind)).value(), kind);
  }
  const auto unknown = ParseScheduleKind("Cosine");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(unknown.status().message(),
            "schedule \"Cosine\" is not known; valid ones: constant, linear, cosine, wsd");
}

TEST(LrScheduleDeathTest, StepsCountFromOne) {
  EXPECT_DEATH(LearningRate(Make(ScheduleKind::kConstant, 0, 1), 0), "steps count from 1");
}

}  // namespace
}  // namespace strake
