#include "tools/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <iostream>
#include <stop_token>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/format_quantity.h"
#include "core/base/printable.h"
#include "tools/cli/terminal_lines.h"

namespace strake {
namespace {

constexpr int kMaxBarColumns = 30;
// Carriage return, then "erase to the end of the line".
constexpr char kEraseLine[] = "\r\x1b[K";

double ShareOf(const ProgressState& state) {
  return state.total_steps > 0 ? static_cast<double>(state.step) / state.total_steps : 0;
}

std::string BarText(double share, int bar_columns) {
  const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * bar_columns);
  return absl::StrCat("[", std::string(filled, '='), std::string(bar_columns - filled, ' '), "]");
}

std::string StateText(const ProgressState& state) {
  return absl::StrFormat("%d/%d  loss %.4f  %s tokens/s  %s left", state.step, state.total_steps,
                         state.loss, FormatCount(state.tokens_per_second),
                         FormatDuration(state.seconds_left));
}

// Fits one line into fewer than `columns`: a full line would wrap, and only its last part would be
// erased.
std::string Line(double share, const std::string& text, int columns) {
  const int room = columns - 1 - ColumnsOf(text) - 3;
  const int bar_columns = std::min(room, kMaxBarColumns);
  const std::string line = bar_columns >= 5 ? BarText(share, bar_columns) + " " + text : text;
  return std::string(FitColumns(line, columns - 1));
}

std::string AmountText(const WorkState& work, double amount) {
  return work.unit == WorkUnit::kBytes ? FormatBytes(amount) : FormatCount(amount);
}

std::string RateText(const WorkState& work, double rate) {
  const bool is_slow = work.unit == WorkUnit::kCount && rate < 10;
  return (is_slow ? absl::StrFormat("%.2g", rate) : AmountText(work, rate)) + "/s";
}

// "45 %, 1.20 GiB of 2.60 GiB, 310.0 MiB/s, 4.6s left"; "12s so far" where nothing is known.
std::string WorkText(const WorkState& work, double seconds, const char* between) {
  std::vector<std::string> parts;
  const bool has_total = work.total > 0;
  const double done_now = work.done - work.resumed;
  const double share = has_total ? std::clamp(work.done / work.total, 0.0, 1.0) : 0;
  if (has_total) parts.push_back(absl::StrFormat("%.0f %%", std::floor(100 * share)));
  if (work.unit != WorkUnit::kShare && work.done > 0) {
    const std::string done = AmountText(work, work.done);
    parts.push_back(has_total ? absl::StrCat(done, " of ", AmountText(work, work.total)) : done);
    if (seconds > 0) parts.push_back(RateText(work, done_now / seconds));
  }
  const bool has_rate = has_total && done_now > 0;
  parts.push_back(has_rate
                      ? FormatDuration(seconds / done_now * std::max(0.0, work.total - work.done)) +
                            " left"
                      : FormatDuration(seconds) + " so far");
  return absl::StrJoin(parts, between);
}

std::string WorkLine(const WorkState& work, double seconds, int columns) {
  const std::string text = absl::StrCat(work.what, "  ", WorkText(work, seconds, "  "));
  if (work.total > 0) return Line(work.done / work.total, text, columns);
  return std::string(FitColumns(text, columns - 1));
}

std::ostream* StreamOf(int fd) { return fd == STDERR_FILENO ? &std::cerr : &std::cout; }

}  // namespace

Progress::Progress(std::ostream* out, int columns, std::function<double()> clock)
    : out_(out), columns_(columns), clock_(std::move(clock)), next_draw_(clock_()) {}

Progress::Progress(int fd, std::function<double()> clock)
    : Progress(StreamOf(fd), TerminalColumns(fd), std::move(clock)) {
  if (columns_ > 0) fd_ = fd;
}

Progress::~Progress() { Erase(); }

void Progress::Update(const ProgressState& state) {
  const std::lock_guard lock(mutex_);
  if (columns_ == 0 || quiet_) return;
  FollowWindow();
  step_bar_ = Line(ShareOf(state), StateText(state), columns_);
  const double now = clock_();
  if (now < next_draw_) return;
  next_draw_ = now + kSecondsBetweenDraws;
  Draw();
}

void Progress::Work(const WorkState& state) {
  const std::lock_guard lock(mutex_);
  if (quiet_) return;
  if (work_.what != state.what) {
    work_begin_ = clock_();
    next_line_ = next_draw_ = work_begin_ + kSecondsOfQuiet;
  } else if (state.done < work_.done) {
    work_begin_ = clock_();
  }
  work_ = state;
  ShowWork();
}

OnWork Progress::Teller() {
  return [this](const WorkState& work) { work.what.empty() ? EndWork() : Work(work); };
}

void Progress::Tick() {
  const std::lock_guard lock(mutex_);
  if (!work_.what.empty()) ShowWork();
}

void Progress::EndWork() {
  const std::lock_guard lock(mutex_);
  work_ = {};
  next_draw_ = clock_();
  if (work_bar_.empty()) return;
  work_bar_.clear();
  step_bar_.empty() ? EraseBar() : Draw();
}

void Progress::ShowWork() {
  const double now = clock_(), seconds = now - work_begin_;
  if (columns_ == 0) {
    if (now < next_line_) return;
    next_line_ = now + kSecondsBetweenLines;
    *out_ << work_.what << ": " << WorkText(work_, seconds, ", ") << "\n" << std::flush;
  } else if (now >= next_draw_) {
    next_draw_ = now + kSecondsBetweenDraws;
    FollowWindow();
    work_bar_ = WorkLine(work_, seconds, columns_);
    Draw();
  }
}

void Progress::Print(absl::string_view text) {
  const std::lock_guard lock(mutex_);
  const bool was_drawn = drawn_;
  EraseBar();
  *out_ << WrapLines(text, line_columns_) << "\n" << std::flush;
  if (was_drawn) Draw();
}

void Progress::PrintProgress(absl::string_view text) {
  if (!quiet_) Print(text);
}

void Progress::PrintNote(absl::string_view text) { PrintProgress("note: " + Printable(text)); }

void Progress::WithoutBar(absl::FunctionRef<void()> print) {
  const std::lock_guard lock(mutex_);
  const bool was_drawn = drawn_;
  EraseBar();
  print();
  if (was_drawn) Draw();
}

void Progress::Erase() {
  const std::lock_guard lock(mutex_);
  work_ = {};
  work_bar_.clear();
  step_bar_.clear();
  next_draw_ = clock_();
  EraseBar();
}

void Progress::FollowWindow() {
  if (fd_ >= 0) columns_ = std::max(1, TerminalColumns(fd_));
}

void Progress::EraseBar() {
  if (drawn_) *out_ << kEraseLine << std::flush;
  drawn_ = false;
}

void Progress::Draw() {
  *out_ << kEraseLine << (work_bar_.empty() ? step_bar_ : work_bar_) << std::flush;
  drawn_ = true;
}

ProgressTicker::ProgressTicker(Progress* progress)
    : thread_([progress](const std::stop_token& stop) {
        std::mutex mutex;
        std::condition_variable_any stopped;
        std::unique_lock lock(mutex);
        while (!stop.stop_requested()) {
          stopped.wait_for(lock, stop, std::chrono::milliseconds(200), [] { return false; });
          progress->Tick();
        }
      }) {}

}  // namespace strake
