#include "core/base/printable.h"

#include <string>

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(PrintableTest, ShowsControlCharacters) {
  EXPECT_EQ(Printable("a tensor \"w\x1b[2J\", \t\x7f"), "a tensor \"w\\x1b[2J\", \\x09\\x7f");
  EXPECT_EQ(Printable(std::string("\0", 1)), "\\x00");
  EXPECT_EQ(Printable("two\nlines\r"), "two lines ");
  EXPECT_EQ(Printable("\u009b31m"), "\\x9b31m");
}

TEST(PrintableTest, LinesAndTabsStayInLines) {
  EXPECT_EQ(PrintableLines("a\tb\r\n\x1b[2J\u009b\n"), "a\tb\\x0d\n\\x1b[2J\\x9b\n");
  EXPECT_EQ(PrintableLines(std::string("\0", 1)), "\\x00");
}

TEST(PrintableTest, KeepsTheRest) {
  for (const char* text : {"", "h\u00fcll \u00c2 \u00a0 \u4e2d \U0001f6a2", "\xff\xc2"}) {
    EXPECT_EQ(Printable(text), text);
    EXPECT_EQ(PrintableLines(text), text);
  }
}

}  // namespace
}  // namespace strake
