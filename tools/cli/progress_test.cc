#include "tools/cli/progress.h"

#include <pty.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "gtest/gtest.h"

namespace strake {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr ProgressState kState = {
    .step = 50, .total_steps = 100, .loss = 1.5, .tokens_per_second = 12345, .seconds_left = 192};
constexpr char kText[] = " 50/100  loss 1.5000  12.3k tokens/s  3m12s left";
constexpr char kErase[] = "\r\x1b[K";

// The bar in a terminal of 120 columns.
std::string FullBar() { return "[" + std::string(15, '=') + std::string(15, ' ') + "]" + kText; }

TEST(ProgressTest, PipedIsPlainLines) {
  std::ostringstream out;
  {
    Progress progress(&out, 0);
    progress.Update(kState);
    progress.Print("one");
    progress.Update(kState);
    progress.Print("two\nthree");
  }
  EXPECT_EQ(out.str(), "one\ntwo\nthree\n");
}

TEST(ProgressTest, LinesStandAboveTheBar) {
  std::ostringstream out;
  {
    Progress progress(&out, 120);
    progress.Print("header");
    progress.Update(kState);
    progress.Print("line");
  }
  EXPECT_EQ(out.str(),
            "header\n" + (kErase + FullBar()) + kErase + "line\n" + (kErase + FullBar()) + kErase);
}

TEST(ProgressTest, ErasedUntilTheNextUpdate) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, 120, [&] { return now; });
  progress.Update(kState);
  progress.Erase();
  out.str("");
  progress.Erase();
  progress.Print("line");
  EXPECT_EQ(out.str(), "line\n");
  now = 1;
  progress.Update(kState);
  EXPECT_EQ(out.str(), "line\n" + (kErase + FullBar()));
}

TEST(ProgressTest, DrawnAtMostTenTimesASecond) {
  std::ostringstream out;
  double now = 7;
  Progress progress(&out, 120, [&] { return now; });
  int draws = 0;
  for (int i = 0; i < 1000; ++i) {
    now = 7 + i / 1000.0;
    out.str("");
    progress.Update(kState);
    draws += !out.str().empty();
  }
  EXPECT_GE(draws, 9);
  EXPECT_LE(draws, 10);
}

TEST(ProgressTest, FitsInTheTerminal) {
  for (const int columns : {1, 2, 10, 48, 54, 60, 80, 300}) {
    std::ostringstream out;
    Progress progress(&out, columns);
    progress.Update(kState);
    const std::string line = out.str().substr(sizeof(kErase) - 1);
    EXPECT_LT(line.size(), columns);
    EXPECT_EQ(line.find(kText) != std::string::npos, columns >= 60) << line;
  }
}

TEST(ProgressTest, OddStates) {
  std::ostringstream out;
  Progress progress(&out, 120);
  progress.Update({.step = 5, .total_steps = 0, .loss = std::nan(""), .seconds_left = kInfinity});
  EXPECT_NE(out.str().find("loss nan  0 tokens/s  ? left"), std::string::npos) << out.str();
}

TEST(TerminalColumnsTest, PipesHaveNone) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(TerminalColumns(ends[1]), 0);
  close(ends[0]);
  close(ends[1]);
  EXPECT_EQ(TerminalColumns(-1), 0);
}

TEST(TerminalColumnsTest, TerminalsHaveTheirs) {
  const winsize wide = {.ws_row = 24, .ws_col = 132, .ws_xpixel = 0, .ws_ypixel = 0};
  const winsize unknown = {};
  for (const winsize& size : {wide, unknown}) {
    int primary, secondary;
    if (openpty(&primary, &secondary, nullptr, nullptr, &size) != 0) {
      GTEST_SKIP() << "this system gives no pseudo-terminal";
    }
    EXPECT_EQ(TerminalColumns(secondary), size.ws_col == 0 ? 80 : 132);
    close(primary);
    close(secondary);
  }
}

}  // namespace
}  // namespace strake
