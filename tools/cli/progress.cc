#include "tools/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/format_quantity.h"

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
  const int room = columns - 1 - static_cast<int>(text.size()) - 3;
  const int bar_columns = std::min(room, kMaxBarColumns);
  const std::string line = bar_columns >= 5 ? BarText(share, bar_columns) + " " + text : text;
  return line.substr(0, columns - 1);
}

}  // namespace

int TerminalColumns(int fd) {
  if (isatty(fd) == 0) return 0;
  winsize size{};
  // A terminal that does not know its size, for example behind a serial line, is assumed to have 80
  // columns.
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

Progress::Progress(std::ostream* out, int columns, std::function<double()> clock)
    : out_(out), columns_(columns), clock_(std::move(clock)), next_draw_(clock_()) {}

Progress::~Progress() { Erase(); }

void Progress::Update(const ProgressState& state) { Update(ShareOf(state), StateText(state)); }

void Progress::Update(double share, const std::string& text) {
  if (columns_ == 0) return;
  bar_ = Line(share, text, columns_);
  const double now = clock_();
  if (now < next_draw_) return;
  next_draw_ = now + kSecondsBetweenDraws;
  Draw();
}

void Progress::Print(absl::string_view text) {
  const bool was_drawn = drawn_;
  Erase();
  *out_ << text << "\n" << std::flush;
  if (was_drawn) Draw();
}

void Progress::Erase() {
  if (drawn_) *out_ << kEraseLine << std::flush;
  drawn_ = false;
}

void Progress::Draw() {
  *out_ << kEraseLine << bar_ << std::flush;
  drawn_ = true;
}

}  // namespace strake
