#include "tools/cli/terminal_lines.h"

#include <cstdlib>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(WrapLinesTest, BreaksAtSpaces) {
  EXPECT_EQ(WrapLines("one two three four five six\nseven", 20),
            "one two three four\n    five six\nseven");
  EXPECT_EQ(WrapLines("one two three four five six", 0), "one two three four five six");
  EXPECT_EQ(WrapLines("  12345678901234567890abc", 20), "  123456789012345678\n    90abc");
  EXPECT_EQ(WrapLines("", 20), "");
  EXPECT_EQ(WrapLines("12345 6789\n", 10), "12345 6789\n");
}

TEST(WrapLinesTest, NoLineIsWider) {
  const std::string text = "  gelu forward, y [64, 512]    1.00e-07  EXCEEDED (a, bbbbbbbbbbbb)  x";
  for (int columns = 1; columns < 80; ++columns) {
    std::string left;
    for (const absl::string_view line : absl::StrSplit(WrapLines(text, columns), '\n')) {
      EXPECT_LE(line.size(), columns);
      left += std::string(line);
    }
    std::string all = text;
    std::erase(left, ' ');
    std::erase(all, ' ');
    EXPECT_EQ(left, all) << "nothing is lost";
  }
}

TEST(LineColumnsTest, TheEnvironmentComesFirst) {
  unsetenv("COLUMNS");
  EXPECT_EQ(LineColumns(-1), 0);
  setenv("COLUMNS", "72", 1);
  EXPECT_EQ(LineColumns(-1), 72);
  for (const char* odd : {"", "0", "-3", "wide"}) {
    setenv("COLUMNS", odd, 1);
    EXPECT_EQ(LineColumns(-1), 0) << odd;
  }
  unsetenv("COLUMNS");
}

}  // namespace
}  // namespace strake
