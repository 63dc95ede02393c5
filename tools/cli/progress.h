// Screen output while training: a live progress bar on a terminal, plain lines elsewhere.
#ifndef STRAKE_TOOLS_CLI_PROGRESS_H_
#define STRAKE_TOOLS_CLI_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>

#include "absl/strings/string_view.h"
#include "core/base/monotonic_seconds.h"

namespace strake {

// The columns of the terminal behind a file descriptor, 0 if it is not a terminal.
int TerminalColumns(int fd);

struct ProgressState {
  int64_t step = 0;
  int64_t total_steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
};

// The bar is the last line on the screen. While a Progress lives, all lines go through it.
class Progress {
 public:
  static constexpr double kSecondsBetweenDraws = 0.1;

  // `columns` = 0 shows no bar. `out` must outlive the Progress; `clock` is for tests.
  Progress(std::ostream* out, int columns, std::function<double()> clock = MonotonicSeconds);
  // Erases the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Draws the bar, unless it was drawn less than kSecondsBetweenDraws ago.
  void Update(const ProgressState& state);
  // The same for other work than steps: its share, from 0 to 1, and what it is.
  void Update(double share, const std::string& text);

  // Prints lines (without the last line's end) above the bar.
  void Print(absl::string_view text);

  // Removes the bar from the screen until the next Update().
  void Erase();

 private:
  void Draw();

  std::ostream* const out_;
  const int columns_;
  const std::function<double()> clock_;
  std::string bar_;
  bool drawn_ = false;
  double next_draw_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_PROGRESS_H_
