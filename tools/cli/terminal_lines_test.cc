#include "tools/cli/terminal_lines.h"

#include <cstdlib>
#include <string>

#include "absl/strings/str_split.h"
#include "core/base/utf8.h"
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

// Letters of one column and two, an accent by itself, and what is no UTF-8.
const char* const kTexts[] = {"Grüße an über Übermütige", "漢字の長い行はここで折り返される",
                              "e\u0301e\u0301 ne\u0301e n\u0303andu\u0301 e\u0301",
                              "one \xff\xfe two \xc3 three"};

TEST(ColumnsTest, AreThoseOfATerminal) {
  EXPECT_EQ(ColumnsOf(""), 0);
  EXPECT_EQ(ColumnsOf("Grüße"), 5);
  EXPECT_EQ(ColumnsOf("漢字"), 4);
  EXPECT_EQ(ColumnsOf("e\u0301"), 1);
  EXPECT_EQ(ColumnsOf("\xff\xc3"), 2);
  EXPECT_EQ(FitColumns("漢字", 3), "漢");
  EXPECT_EQ(FitColumns("漢字", 1), "");
  EXPECT_EQ(FitColumns("e\u0301a", 1), "e\u0301");
}

TEST(WrapLinesTest, CharactersAreNotCut) {
  for (const std::string text : kTexts) {
    for (int columns = 2; columns < 40; ++columns) {
      EXPECT_LE(ColumnsOf(FitColumns(text, columns)), columns);
      std::string left;
      for (const absl::string_view line : absl::StrSplit(WrapLines(text, columns), '\n')) {
        EXPECT_LE(ColumnsOf(line), columns);
        EXPECT_TRUE(IsUtf8(line) || !IsUtf8(text)) << columns;
        left += std::string(line);
      }
      std::string all = text;
      std::erase(left, ' ');
      std::erase(all, ' ');
      EXPECT_EQ(left, all) << "nothing is lost";
    }
  }
  EXPECT_EQ(WrapLines("漢字", 1), "漢\n字") << "wider than the terminal";
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
