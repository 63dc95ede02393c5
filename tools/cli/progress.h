// Screen output of long work: a live progress bar on a terminal, plain lines elsewhere. Programs
// have a WorkScreen (tools/cli/work_screen.h).
#ifndef STRAKE_TOOLS_CLI_PROGRESS_H_
#define STRAKE_TOOLS_CLI_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "core/base/monotonic_seconds.h"
#include "core/base/work_state.h"
#include "tools/cli/terminal_lines.h"

namespace strake {

struct ProgressState {
  int64_t step = 0;
  int64_t total_steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
};

// The bar is the last line on the screen, and narrower than it. While a Progress lives, all lines
// go through it. Any thread may call its functions.
//
// Work is told of when it has taken kSecondsOfQuiet: on a terminal by a bar, elsewhere by a line
// then and after each kSecondsBetweenLines.
class Progress {
 public:
  static constexpr double kSecondsBetweenDraws = 0.1;
  static constexpr double kSecondsOfQuiet = 2;
  static constexpr double kSecondsBetweenLines = 30;

  // `columns` = 0 shows no bar, but lines. `out` must outlive the Progress; `clock` is for tests.
  Progress(std::ostream* out, int columns, std::function<double()> clock = MonotonicSeconds);
  // Shows it on stdout or stderr (STDOUT_FILENO, STDERR_FILENO). A bar has room in the window as it
  // is when the bar is drawn.
  explicit Progress(int fd, std::function<double()> clock = MonotonicSeconds);
  // Erases the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Shows lines even on a terminal. Call these before the first output.
  void ShowNoBar() { fd_ = -1, columns_ = 0; }
  // Shows nothing but what Print() prints.
  void set_quiet(bool quiet) { quiet_ = quiet; }
  bool quiet() const { return quiet_; }

  // Draws the bar, unless it was drawn less than kSecondsBetweenDraws ago.
  void Update(const ProgressState& state);
  // The same for other work than steps, which may interrupt them. It begins when it is first told
  // of, and goes on until other work begins. Where less is done than before, it is done
  // once more.
  void Work(const WorkState& state);
  // Calls Work(), or EndWork() where the state has no `what`.
  OnWork Teller();
  // Ends the work: the bar of the steps is back, if there was one.
  void EndWork();
  // Shows how long the work takes now. For a clock to call while the work itself tells nothing.
  void Tick();

  // Breaks printed lines that are longer (tools/cli/terminal_lines.h); 0: never. Before the first.
  void set_line_columns(int columns) { line_columns_ = columns; }
  int line_columns() const { return line_columns_; }

  // Prints lines (without the last line's end) above the bar: results, warnings.
  void Print(absl::string_view text);
  // The same of lines that tell what is being done, unless it is quiet.
  void PrintProgress(absl::string_view text);
  // The same of "note: " and a text, as one line.
  void PrintNote(absl::string_view text);

  // Calls `print`, which writes to the same terminal by itself, while there is no bar. What it
  // leaves must end with a line's end.
  void WithoutBar(absl::FunctionRef<void()> print);

  // Removes the bar from the screen, and ends the work, until the next Update().
  void Erase();

 private:
  // Called with mutex_ locked:
  void FollowWindow();
  void ShowWork();
  void EraseBar();
  void Draw();

  std::ostream* const out_;
  int fd_ = -1;  // of the terminal whose window changes
  int columns_;
  int line_columns_ = 0;
  bool quiet_ = false;
  const std::function<double()> clock_;
  std::mutex mutex_;
  std::string step_bar_;
  WorkState work_;  // `what` is empty where there is none
  std::string work_bar_;
  double work_begin_ = 0, next_line_ = 0;
  bool drawn_ = false;
  double next_draw_;
};

// Calls Tick() from a thread of its own, for work that seldom tells how far it is.
class ProgressTicker {
 public:
  explicit ProgressTicker(Progress* progress);

 private:
  std::jthread thread_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_PROGRESS_H_
