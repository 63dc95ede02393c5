#include "data/train_val_split.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(SplitTrainValTest, HoldsBackTheLastTenth) {
  const auto split = SplitTrainVal(1009, std::nullopt, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->train.begin, 0);
  EXPECT_EQ(split->train.end, 909);
  EXPECT_EQ(split->val.begin, 909);
  EXPECT_EQ(split->val.end, 1009);
}

TEST(SplitTrainValTest, TrainsOnEverythingWithValidationData) {
  const auto split = SplitTrainVal(1009, 50, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->train.begin, 0);
  EXPECT_EQ(split->train.end, 1009);
  EXPECT_EQ(split->val.begin, 0);
  EXPECT_EQ(split->val.end, 50);
}

TEST(SplitTrainValTest, TheShortestThatWorks) {
  EXPECT_TRUE(SplitTrainVal(90, std::nullopt, 8).ok());
  EXPECT_TRUE(SplitTrainVal(9, 9, 8).ok());
}

TEST(SplitTrainValTest, TooShortPartsAreNamedWithBothNumbers) {
  EXPECT_THAT(SplitTrainVal(89, std::nullopt, 8).status().message(),
              AllOf(HasSubstr("last 10 %"), HasSubstr("has 8 tokens"), HasSubstr("takes 9")));
  EXPECT_THAT(SplitTrainVal(9, std::nullopt, 10).status().message(),
              AllOf(HasSubstr("the training data has 9 tokens"), HasSubstr("takes 11")));
  EXPECT_THAT(SplitTrainVal(9, 8, 8).status().message(),
              AllOf(HasSubstr("the validation data has 8 tokens"), HasSubstr("takes 9")));
  EXPECT_THAT(SplitTrainVal(100, 100, INT64_MAX).status().message(),
              HasSubstr("takes 9223372036854775808"));
}

}  // namespace
}  // namespace strake
