#include "core/memory/segment_runs.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Returns the runs of the segments whose names are in `names`.
std::vector<ShardRange> Runs(const ParameterRecord& record, const ShardRange& range,
                             const std::string& names) {
  std::vector<ShardRange> runs;
  ForEachSegmentRun(
      record, range,
      [&](const ParameterSegment& segment) { return names.find(segment.name) != names.npos; },
      [&](const ShardRange& run) { runs.push_back(run); });
  return runs;
}

class SegmentRunsTest : public ::testing::Test {
 protected:
  SegmentRunsTest() {
    arena_.Add({{.name = "x", .columns = 3}}, {3}, false);
    arena_.Add(
        {{.name = "q", .columns = 4}, {.name = "k", .columns = 2}, {.name = "v", .columns = 2}},
        {3, 8}, true);
    fused_ = &arena_.records()[1];
  }

  ParameterArena arena_;
  const ParameterRecord* fused_;  // indices [64, 88)
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

TEST_F(SegmentRunsTest, BlocksOfTheRunsElements) {
  const auto blocks = [&](const ShardRange& range, const std::string& names) {
    return SegmentBlocks(*fused_, range, [&](const ParameterSegment& segment) {
      return names.find(segment.name) != names.npos;
    });
  };
  EXPECT_THAT(blocks({0, 128}, "q"), ElementsAre(SegmentBlock{64, 4, 3, 8}));
  EXPECT_THAT(blocks({0, 128}, "kv"), ElementsAre(SegmentBlock{68, 4, 3, 8}));
  EXPECT_THAT(blocks({0, 128}, "qkv"), ElementsAre(SegmentBlock{64, 24, 1, 24}));
  EXPECT_THAT(blocks({0, 128}, ""), IsEmpty());
  // Rows of 2, of 4, and of 3; and a row that continues in the next.
  EXPECT_THAT(
      blocks({66, 83}, "q"),
      ElementsAre(SegmentBlock{66, 2, 1, 2}, SegmentBlock{72, 4, 1, 4}, SegmentBlock{80, 3, 1, 3}));
  EXPECT_THAT(
      blocks({0, 128}, "qv"),
      ElementsAre(SegmentBlock{64, 4, 1, 4}, SegmentBlock{70, 6, 2, 8}, SegmentBlock{86, 2, 1, 2}));
  // The order of the elements is always that of the runs.
  for (const std::string names : {"q", "k", "kv", "qv", "qkv"}) {
    for (int64_t begin = 60; begin < 90; ++begin) {
      for (int64_t end = begin; end < 92; ++end) {
        std::vector<int64_t> of_runs, of_blocks;
        for (const ShardRange& run : Runs(*fused_, {begin, end}, names)) {
          for (int64_t i = run.begin; i < run.end; ++i) of_runs.push_back(i);
        }
        for (const SegmentBlock& block : blocks({begin, end}, names)) {
          for (int64_t i = 0; i < block.num_elements(); ++i) {
            of_blocks.push_back(block.begin + i / block.columns * block.stride + i % block.columns);
          }
          EXPECT_EQ(of_blocks.back() + 1, block.end());
        }
        EXPECT_EQ(of_blocks, of_runs) << names << " [" << begin << ", " << end << ")";
      }
    }
  }
}

}  // namespace
}  // namespace strake
