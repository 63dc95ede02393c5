// The bar of a process whose stdout is a pseudo-terminal, or a pipe.
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/cli/progress.h"

namespace strake {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr unsigned short kColumns = 60;

// The lines of a terminal that understands what the bar needs: line ends, carriage returns, and
// "erase to the end of the line".
class Screen {
 public:
  explicit Screen(size_t columns) : columns_(columns) {}

  void Write(absl::string_view bytes) {
    while (!bytes.empty()) {
      if (absl::StartsWith(bytes, "\x1b[K")) {
        lines_.back().resize(std::min(lines_.back().size(), column_));
        ++num_erased_;
        bytes.remove_prefix(3);
        continue;
      }
      Write(bytes[0]);
      bytes.remove_prefix(1);
    }
  }

  const std::vector<std::string>& lines() const { return lines_; }
  const std::vector<std::string>& drawn() const { return drawn_; }  // each line before it changed
  bool has_wrapped() const { return has_wrapped_; }
  int num_erased() const { return num_erased_; }

 private:
  void Write(char c) {
    if (c == '\n' || c == '\r') {
      if (!lines_.back().empty()) drawn_.push_back(lines_.back());
      column_ = 0;
      if (c == '\n') lines_.emplace_back();
      return;
    }
    has_wrapped_ = has_wrapped_ || column_ == columns_;
    std::string& line = lines_.back();
    line.resize(std::max(line.size(), column_ + 1), ' ');
    line[column_++] = c;
  }

  const size_t columns_;
  std::vector<std::string> lines_ = {""}, drawn_;
  size_t column_ = 0;
  bool has_wrapped_ = false;
  int num_erased_ = 0;
};

std::string ReadAll(int fd) {
  std::string all;
  char buffer[4096];
  // A terminal whose last process has ended returns an error.
  for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) all.append(buffer, n);
  close(fd);
  return all;
}

// What a process writes on its stdout, which is `out` there; `in` is the other end.
std::string OutputOf(int in, int out, absl::FunctionRef<void(Progress&, double* now)> body) {
  const pid_t child = fork();
  if (child == 0) {
    dup2(out, STDOUT_FILENO);
    close(in);
    close(out);
    double now = 0;
    {
      Progress progress(STDOUT_FILENO, [&] { return now; });
      body(progress, &now);
    }
    std::cout.flush();
    _exit(0);
  }
  EXPECT_GT(child, 0);
  close(out);
  std::string output = ReadAll(in);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return output;
}

// Ten seconds of work, during which a result is printed, and a second of steps.
void Work(Progress& progress, double* now) {
  for (int i = 0; i <= 100; ++i) {
    *now = 0.1 * i;
    progress.Work({.what = "reading weights of a model with a long name",
                   .done = 1e6 * i,
                   .total = 1e8,
                   .unit = WorkUnit::kBytes});
    if (i == 50) progress.Print("a result");
  }
  progress.EndWork();
  for (int i = 1; i <= 10; ++i) {
    *now += 0.1;
    progress.Update({.step = i, .total_steps = 10, .loss = 1, .tokens_per_second = 1e4});
  }
}

class TerminalTest : public ::testing::Test {
 protected:
  // The screen after the body, in a window of kColumns.
  Screen ScreenOf(absl::FunctionRef<void(Progress&, double* now)> body) {
    const winsize size = {.ws_row = 24, .ws_col = kColumns, .ws_xpixel = 0, .ws_ypixel = 0};
    Screen screen(kColumns);
    int primary, secondary;
    if (openpty(&primary, &secondary, nullptr, nullptr, &size) != 0) {
      has_terminal_ = false;
      return screen;
    }
    screen.Write(OutputOf(primary, secondary, body));
    return screen;
  }

  bool has_terminal_ = true;
};

TEST_F(TerminalTest, TheBarIsOneLineThatIsGoneAtTheEnd) {
  const Screen screen = ScreenOf(Work);
  if (!has_terminal_) GTEST_SKIP() << "this system gives no pseudo-terminal";
  EXPECT_THAT(screen.lines(), ElementsAre("a result", "")) << "and nothing else is left";
  EXPECT_FALSE(screen.has_wrapped());
  // Ten drawings a second: eight seconds of work after two of quiet, and the steps.
  EXPECT_GT(screen.drawn().size(), 80);
  EXPECT_GT(screen.num_erased(), 80);
  for (const std::string& line : screen.drawn()) EXPECT_LT(line.size(), kColumns) << line;
  EXPECT_THAT(screen.drawn().front(), HasSubstr("reading weights"));
  EXPECT_THAT(screen.drawn().back(), HasSubstr("10/10  loss 1.0000"));
}

TEST_F(TerminalTest, TheBarFollowsTheWindow) {
  const Screen screen = ScreenOf([](Progress& progress, double* now) {
    for (const unsigned short columns : {kColumns, (unsigned short){40}, (unsigned short){20}}) {
      const winsize size = {.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
      ioctl(STDOUT_FILENO, TIOCSWINSZ, &size);
      *now += 3;
      progress.Work({.what = "reading weights of a model with a long name", .total = 1});
      progress.Tick();
    }
  });
  if (!has_terminal_) GTEST_SKIP() << "this system gives no pseudo-terminal";
  std::vector<size_t> widths;
  for (const std::string& line : screen.drawn()) widths.push_back(line.size());
  EXPECT_THAT(widths, ElementsAre(39, 19)) << "the first one was within the two seconds of quiet";
  EXPECT_THAT(screen.lines(), ElementsAre(""));
}

TEST_F(TerminalTest, APipeGetsPlainLines) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(OutputOf(ends[0], ends[1], Work),
            "reading weights of a model with a long name: 20 %, 19.1 MiB of 95.4 MiB, 9.54 MiB/s, "
            "8.0s left\n"
            "a result\n");
}

}  // namespace
}  // namespace strake
