#include "tools/cli/progress.h"

#include <pty.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <sstream>
#include <thread>

#include "core/base/utf8.h"
#include "gtest/gtest.h"
#include "tools/cli/terminal_lines.h"

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

const WorkState kReading = {.what = "reading weights",
                            .done = 1024 * 1024,
                            .total = 4 * 1024 * 1024,
                            .unit = WorkUnit::kBytes};
constexpr char kReadingBar[] =
    "[=======                       ] "
    "reading weights  25 %  1.00 MiB of 4.00 MiB  512.0 KiB/s  6.0s left";

TEST(ProgressTest, WorkOfTwoSecondsHasABar) {
  std::ostringstream out;
  double now = 5;
  Progress progress(&out, 120, [&] { return now; });
  progress.Work({.what = "reading weights"});
  now = 6.9;
  progress.Work(kReading);
  progress.Tick();
  EXPECT_EQ(out.str(), "");
  now = 7;
  progress.Tick();
  EXPECT_EQ(out.str(), kErase + std::string(kReadingBar));
  out.str("");
  progress.Print("line");
  EXPECT_EQ(out.str(), kErase + std::string("line\n") + kErase + kReadingBar);
  out.str("");
  progress.EndWork();
  EXPECT_EQ(out.str(), kErase);
  // Other work begins anew.
  out.str("");
  now = 8;
  progress.Work({.what = "comparing weights"});
  progress.EndWork();
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressTest, WorkInterruptsSteps) {
  std::ostringstream out;
  double now = 5;
  Progress progress(&out, 120, [&] { return now; });
  progress.Update(kState);
  progress.Work({.what = "validating"});
  EXPECT_EQ(out.str(), kErase + FullBar());
  out.str("");
  now = 8;
  progress.Tick();
  EXPECT_EQ(out.str(), std::string(kErase) + "validating  3.0s so far");
  out.str("");
  progress.EndWork();
  EXPECT_EQ(out.str(), kErase + FullBar());
}

TEST(ProgressTest, PipedWorkHasFewLines) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, 0, [&] { return now; });
  for (int second = 0; second <= 40; ++second) {
    now = second;
    progress.Work({.what = "reading", .done = now, .total = 80, .unit = WorkUnit::kCount});
  }
  progress.EndWork();
  progress.Tick();
  EXPECT_EQ(out.str(),
            "reading: 2 %, 2 of 80, 1/s, 1m18s left\nreading: 40 %, 32 of 80, 1/s, 48s left\n");
}

TEST(ProgressTest, WorkThatIsDoneOnceMoreHasARateOfItsOwn) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, 0, [&] { return now; });
  WorkState work = {.what = "computing", .done = 0, .total = 80, .unit = WorkUnit::kCount};
  progress.Work(work);
  now = 1;
  work.done = 60;
  progress.Work(work);
  work.done = 0;
  progress.Work(work);
  now = 5;
  work.done = 2;
  progress.Work(work);
  EXPECT_EQ(out.str(), "computing: 2 %, 2 of 80, 0.5/s, 2m36s left\n");
}

TEST(ProgressTest, WhatAnEarlierProcessDidTellsNothingOfTheRate) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, 0, [&] { return now; });
  WorkState work = {
      .what = "reading", .done = 50, .total = 80, .unit = WorkUnit::kCount, .resumed = 50};
  progress.Work(work);
  now = 10;
  work.done = 60;
  progress.Work(work);
  EXPECT_EQ(out.str(), "reading: 75 %, 60 of 80, 1/s, 20s left\n");
}

TEST(ProgressTest, WorkFitsInTheTerminal) {
  for (const int columns : {1, 2, 10, 48, 54, 60, 80, 300}) {
    std::ostringstream out;
    double now = 0;
    Progress progress(&out, columns, [&] { return now; });
    progress.Work(kReading);
    now = 2;
    progress.Tick();
    EXPECT_LT(out.str().size() - (sizeof(kErase) - 1), columns) << out.str();
  }
}

TEST(ProgressTest, WorkOfAnyNameFitsInTheTerminal) {
  for (const std::string what : {"reading Bücher über Übermütige", "reading 漢字の長い行.txt"}) {
    for (int columns = 2; columns < 120; ++columns) {
      std::ostringstream out;
      double now = 0;
      Progress progress(&out, columns, [&] { return now; });
      progress.Work({.what = what, .done = 1, .total = 2});
      now = 2;
      progress.Tick();
      const std::string line = out.str().substr(sizeof(kErase) - 1);
      EXPECT_LT(ColumnsOf(line), columns);
      EXPECT_TRUE(IsUtf8(line)) << columns;
    }
  }
}

TEST(ProgressTest, QuietIsResultsAlone) {
  for (const int columns : {0, 80}) {
    std::ostringstream out;
    double now = 0;
    Progress progress(&out, columns, [&] { return now; });
    progress.set_quiet(true);
    progress.Work({.what = "reading"});
    now = 5;
    progress.Tick();
    progress.Teller()({.what = "reading", .done = 1, .total = 2});
    progress.Update(kState);
    progress.PrintNote("a note");
    progress.PrintProgress("took 5 s");
    progress.Print("a result");
    progress.WithoutBar([&] { out << "another\n"; });
    progress.EndWork();
    EXPECT_EQ(out.str(), "a result\nanother\n");
  }
}

TEST(ProgressTest, OthersWriteWithoutTheBar) {
  std::ostringstream out;
  double now = 0;
  Progress progress(&out, 120, [&] { return now; });
  progress.Work(kReading);
  now = 2;
  progress.Tick();
  out.str("");
  progress.WithoutBar([&] { out << "a line\n"; });
  EXPECT_EQ(out.str(), kErase + std::string("a line\n") + kErase + kReadingBar);
  out.str("");
  progress.Teller()({});
  EXPECT_EQ(out.str(), kErase);
  progress.PrintNote("one\nline");
  EXPECT_EQ(out.str(), kErase + std::string("note: one line\n"));
}

TEST(ProgressTest, ATickerShowsWorkThatTellsNothing) {
  std::ostringstream out;
  std::atomic<double> now = 0;
  std::atomic<int> questions = 0;
  Progress progress(&out, 0, [&] {
    ++questions;
    return now.load();
  });
  progress.Work({.what = "reading"});
  now = 3;
  {
    const int before = questions;
    const ProgressTicker ticker(&progress);
    while (questions == before) std::this_thread::yield();
  }
  EXPECT_EQ(out.str(), "reading: 3.0s so far\n");
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
