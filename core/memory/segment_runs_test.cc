#include "core/memory/segment_runs.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Of the segments with a name among `names`.
std::vector<ShardRange> Runs(const Parameter& parameter, const ShardRange& range,
                             const std::string& names) {
  std::vector<ShardRange> runs;
  ForEachSegmentRun(
      parameter, range,
      [&](const ParameterSegment& segment) { return names.find(segment.name) != names.npos; },
      [&](const ShardRange& run) { runs.push_back(run); });
  return runs;
}

class SegmentRunsTest : public ::testing::Test {
 protected:
  SegmentRunsTest() {
    arena_.Add({{.name = "x", .columns = 3}}, {3}, false);
    fused_ = arena_.Add(
        {{.name = "q", .columns = 4}, {.name = "k", .columns = 2}, {.name = "v", .columns = 2}},
        {3, 8}, true);
  }

  ParameterArena arena_;
  const Parameter* fused_;  // indices [64, 88)
};

TEST_F(SegmentRunsTest, OnePerRowOrOneInAll) {
  EXPECT_THAT(Runs(*fused_, {0, 128}, "q"),
              ElementsAre(ShardRange{64, 68}, ShardRange{72, 76}, ShardRange{80, 84}));
  EXPECT_THAT(Runs(*fused_, {0, 128}, "v"),
              ElementsAre(ShardRange{70, 72}, ShardRange{78, 80}, ShardRange{86, 88}));
  EXPECT_THAT(Runs(*fused_, {0, 128}, "qkv"), ElementsAre(ShardRange{64, 88}));
  EXPECT_THAT(Runs(*fused_, {0, 128}, ""), IsEmpty());
}

TEST_F(SegmentRunsTest, AreCutToTheRange) {
  EXPECT_THAT(Runs(*fused_, {66, 82}, "q"),
              ElementsAre(ShardRange{66, 68}, ShardRange{72, 76}, ShardRange{80, 82}));
  EXPECT_THAT(Runs(*fused_, {66, 82}, "qkv"), ElementsAre(ShardRange{66, 82}));
  EXPECT_THAT(Runs(*fused_, {68, 70}, "q"), IsEmpty());
  EXPECT_THAT(Runs(*fused_, {70, 70}, "qkv"), IsEmpty());
  EXPECT_THAT(Runs(*fused_, {0, 64}, "qkv"), IsEmpty());
  EXPECT_THAT(Runs(*fused_, {88, 128}, "qkv"), IsEmpty());
}

}  // namespace
}  // namespace strake
