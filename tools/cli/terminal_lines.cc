#include "tools/cli/terminal_lines.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace strake {
namespace {

constexpr int kIndent = 4;

// Where to break a line that is too long: after at least `least` characters.
size_t BreakOf(absl::string_view line, size_t columns, size_t least) {
  const size_t space = line.substr(0, columns + 1).rfind(' ');
  if (space == line.npos || space <= least) return columns;
  const size_t end = line.substr(0, space).find_last_not_of(' ');
  return end == line.npos || end < least ? columns : end + 1;
}

std::string WrapLine(absl::string_view line, size_t columns) {
  const size_t indent = columns > 4 * kIndent ? kIndent : 0;
  std::vector<std::string> parts;
  std::string rest(line);
  while (rest.size() > columns) {
    const size_t first_word = rest.find_first_not_of(' ');
    const size_t end = BreakOf(rest, columns, first_word == rest.npos ? 0 : first_word);
    parts.push_back(rest.substr(0, end));
    rest = std::string(indent, ' ') +
           std::string(absl::StripLeadingAsciiWhitespace(absl::string_view(rest).substr(end)));
  }
  if (parts.empty() || rest.size() > indent) parts.push_back(rest);
  return absl::StrJoin(parts, "\n");
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

int LineColumns(int fd) {
  const char* text = getenv("COLUMNS");
  int columns = 0;
  if (text != nullptr && absl::SimpleAtoi(text, &columns) && columns > 0) return columns;
  return TerminalColumns(fd);
}

std::string WrapLines(absl::string_view text, int columns) {
  if (columns <= 0) return std::string(text);
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.push_back(WrapLine(line, columns));
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace strake
