#include "tools/cli/terminal_lines.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/utf8.h"

namespace strake {
namespace {

constexpr int kIndent = 4;

// The bytes and columns of the character at the beginning of a text.
struct Char {
  size_t num_bytes;
  int columns;
};

Char FirstChar(absl::string_view text) {
  const Utf8Char decoded = DecodeUtf8(text.data(), text.data() + text.size());
  if (decoded.num_bytes == 0) return {1, 1};
  return {static_cast<size_t>(decoded.num_bytes),
          utf8proc_charwidth(static_cast<utf8proc_int32_t>(decoded.code_point))};
}

// Returns where to break a line that is too long: after at least `least` bytes.
size_t BreakOf(absl::string_view line, int columns, size_t least) {
  const size_t room = std::max(FitColumns(line, columns).size(), FirstChar(line).num_bytes);
  const size_t space = line.substr(0, room + 1).rfind(' ');
  if (space == line.npos || space <= least) return room;
  const size_t end = line.substr(0, space).find_last_not_of(' ');
  return end == line.npos || end < least ? room : end + 1;
}

std::string WrapLine(absl::string_view line, int columns) {
  const size_t indent = columns > 4 * kIndent ? kIndent : 0;
  std::vector<std::string> parts;
  std::string rest(line);
  while (ColumnsOf(rest) > columns) {
    const size_t first_word = rest.find_first_not_of(' ');
    const size_t end = BreakOf(rest, columns, first_word == rest.npos ? 0 : first_word);
    if (end == rest.size()) break;
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

int ColumnsOf(absl::string_view line) {
  int columns = 0;
  while (!line.empty()) {
    const Char first = FirstChar(line);
    columns += first.columns;
    line.remove_prefix(first.num_bytes);
  }
  return columns;
}

absl::string_view FitColumns(absl::string_view line, int columns) {
  size_t end = 0;
  while (end < line.size()) {
    const Char next = FirstChar(line.substr(end));
    columns -= next.columns;
    if (columns < 0) break;
    end += next.num_bytes;
  }
  return line.substr(0, end);
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
