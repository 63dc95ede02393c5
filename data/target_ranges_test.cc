#include "data/target_ranges.h"

#include <string>

#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;
using testing::TempDirectory;

const TargetRanges kSmall = {.num_tokens = 20, .ranges = {{0, 3}, {4, 5}, {17, 20}}};

std::string Message(const std::string& bytes) {
  const auto targets = ParseTargetRanges("x.targets", bytes);
  EXPECT_TRUE(absl::IsDataLoss(targets.status())) << targets.status();
  return std::string(targets.status().message());
}

TEST(TargetRangesTest, Path) {
  EXPECT_EQ(TargetRangesPath("a.bin/b.bin"), "a.bin/b.targets");
  EXPECT_EQ(TargetRangesPath("tokens"), "tokens.targets");
}

TEST(TargetRangesTest, RoundTrip) {
  const TempDirectory directory;
  for (const TargetRanges& targets : {kSmall, TargetRanges{.num_tokens = 3}}) {
    ASSERT_TRUE(WriteTargetRanges(directory / "t.bin", targets).ok());
    const auto read = ReadTargetRanges(directory / "t.bin", targets.num_tokens);
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_TRUE(read->has_value());
    EXPECT_TRUE(**read == targets);
  }
  EXPECT_EQ(kSmall.num_targets(), 7);
}

TEST(TargetRangesTest, ThereMayBeNone) {
  const TempDirectory directory;
  const auto read = ReadTargetRanges(directory / "t.bin", 3);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->has_value());
}

TEST(TargetRangesTest, EveryCutAndEveryChangedBitIsFound) {
  const std::string good = TargetRangesBytes(kSmall);
  ASSERT_TRUE(ParseTargetRanges("x", good).ok());
  for (size_t size = 0; size < good.size(); ++size) Message(good.substr(0, size));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    Message(bad);
  }
  EXPECT_THAT(Message(good + "x"), HasSubstr("says that it has 3 ranges"));
}

TEST(TargetRangesTest, ContradictionsAreNamed) {
  const auto message = [](TokenRange second) {
    TargetRanges targets = kSmall;
    targets.ranges[1] = second;
    return Message(TargetRangesBytes(targets));
  };
  EXPECT_THAT(message({3, 5}), HasSubstr("x.targets: range 1 is of the tokens [3, 5), after one "
                                         "that ends at 3 and of 20 tokens"));
  EXPECT_THAT(message({6, 6}), HasSubstr("range 1 is of the tokens [6, 6)"));
  EXPECT_THAT(message({7, 6}), HasSubstr("range 1 is of the tokens [7, 6)"));
  EXPECT_THAT(message({6, 17}), HasSubstr("range 2 is of the tokens [17, 20)"));
  EXPECT_THAT(message({-5, 6}), HasSubstr("range 1"));
  TargetRanges longer = kSmall;
  longer.ranges[2].end = 21;
  EXPECT_THAT(Message(TargetRangesBytes(longer)), HasSubstr("[17, 21)"));
  EXPECT_THAT(Message(TargetRangesBytes({.num_tokens = 3, .ranges = {{-1, 2}}})),
              HasSubstr("range 0 is of the tokens [-1, 2)"));
}

TEST(TargetRangesTest, AnotherTokenFile) {
  const TempDirectory directory;
  ASSERT_TRUE(WriteTargetRanges(directory / "t.bin", kSmall).ok());
  const auto read = ReadTargetRanges(directory / "t.bin", 19);
  EXPECT_TRUE(absl::IsDataLoss(read.status()));
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("is of 20 tokens"));
}

}  // namespace
}  // namespace strake
