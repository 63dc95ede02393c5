#include "core/base/format_quantity.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace strake {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(FormatTest, Durations) {
  EXPECT_EQ(FormatDuration(0), "0.0s");
  EXPECT_EQ(FormatDuration(3.21), "3.2s");
  EXPECT_EQ(FormatDuration(9.96), "10s");
  EXPECT_EQ(FormatDuration(59.4), "59s");
  EXPECT_EQ(FormatDuration(59.6), "1m00s");
  EXPECT_EQ(FormatDuration(192), "3m12s");
  EXPECT_EQ(FormatDuration(3599.6), "1h00m");
  EXPECT_EQ(FormatDuration(7500), "2h05m");
  EXPECT_EQ(FormatDuration(86399), "1d00h");
  EXPECT_EQ(FormatDuration(3 * 86400 + 4 * 3600), "3d04h");
  for (const double bad : {-1.0, std::nan(""), kInfinity, 1e300}) {
    EXPECT_EQ(FormatDuration(bad), "?");
  }
}

TEST(FormatTest, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(950), "950");
  EXPECT_EQ(FormatCount(999.4), "999");
  EXPECT_EQ(FormatCount(999.6), "1.00k");
  EXPECT_EQ(FormatCount(1000), "1.00k");
  EXPECT_EQ(FormatCount(12345), "12.3k");
  EXPECT_EQ(FormatCount(999949), "999.9k");
  EXPECT_EQ(FormatCount(999951), "1.00M");
  EXPECT_EQ(FormatCount(124439808), "124.4M");
  EXPECT_EQ(FormatCount(8030261248), "8.03B");
  EXPECT_EQ(FormatCount(5e15), "5000T");
  EXPECT_EQ(FormatCount(-1), "?");
  EXPECT_EQ(FormatCount(std::nan("")), "?");
}

TEST(FormatTest, Plural) {
  EXPECT_EQ(Plural(0, "file"), "files");
  EXPECT_EQ(Plural(1, "file"), "file");
  EXPECT_EQ(Plural(2, "file"), "files");
}

TEST(FormatTest, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(FormatBytes(1000.0 * 1024), "1000 KiB");
  EXPECT_EQ(FormatBytes(1023.4 * 1024), "1023 KiB");
  EXPECT_EQ(FormatBytes(1023.6 * 1024), "1.00 MiB");
  EXPECT_EQ(FormatBytes(1024.0 * 1024 - 1), "1.00 MiB");
  EXPECT_EQ(FormatBytes(2.6 * (1 << 30)), "2.60 GiB");
}

}  // namespace
}  // namespace strake
