#include "tools/scheduling/schedule_picture.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

PipelineSimulation Simulate(const PipelineShape& shape, const PipelineCosts& costs = {}) {
  return SimulatePipeline(shape, costs).value();
}

TEST(SchedulePicture, HasALinePerStage) {
  EXPECT_EQ(TextOfSchedule(Simulate({PipelineKind::k1f1b, 2, 1, 2}), /*has_chunks=*/false, 100),
            "stage 0  F0 F1 .. B0 W0 .. B1 W1\n"
            "stage 1  .. F0 B0 W0 F1 B1 W1 ..\n");
}

TEST(SchedulePicture, BreaksLinesBetweenPasses) {
  EXPECT_EQ(TextOfSchedule(Simulate({PipelineKind::k1f1b, 1, 1, 2}), /*has_chunks=*/false, 19),
            "stage 0  F0 B0 W0\n"
            "\n"
            "stage 0  F1 B1 W1\n");
}

TEST(SchedulePicture, DrawsLongPassesLong) {
  EXPECT_EQ(TextOfSchedule(Simulate({PipelineKind::k1f1b, 1, 1, 1}, {.input_gradient = 2}),
                           /*has_chunks=*/false, 100),
            "stage 0  F0 B0--- W0\n");
}

TEST(SchedulePicture, NamesChunks) {
  EXPECT_EQ(
      TextOfSchedule(Simulate({PipelineKind::kInterleaved, 1, 2, 1}), /*has_chunks=*/true, 100),
      "stage 0  F0a F0b B0b W0b B0a W0a\n");
}

TEST(SchedulePicture, IsAnSvg) {
  const std::string svg =
      SvgOfSchedule(Simulate({PipelineKind::k1f1b, 2, 1, 3}), /*has_chunks=*/false);
  EXPECT_THAT(svg, ::testing::StartsWith("<svg xmlns="));
  EXPECT_THAT(svg, HasSubstr("stage 1: forward pass of micro-batch 0, from 1 to 2"));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
}

}  // namespace
}  // namespace strake
