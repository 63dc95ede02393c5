#include "train/engine/engine_options.h"

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(CheckSequenceTest, RanksDivideSequencesIntoTwoChunksEach) {
  for (const int64_t seq_len : {1, 7, 100}) EXPECT_TRUE(CheckSequence(seq_len, 1).ok());
  for (const int64_t seq_len : {8, 96, 104}) EXPECT_TRUE(CheckSequence(seq_len, 4).ok());
  EXPECT_EQ(CheckSequence(100, 4),
            absl::InvalidArgumentError("the sequence length 100 is not a multiple of 8, twice the "
                                       "4 context-parallel ranks: take 96 or 104"));
  EXPECT_EQ(CheckSequence(4, 3),
            absl::InvalidArgumentError("the sequence length 4 is not a multiple of 6, twice the 3 "
                                       "context-parallel ranks: take 6"));
}

}  // namespace
}  // namespace strake
