// The width of the terminal, and lines that are no wider. A character of UTF-8 is never cut.
#ifndef STRAKE_TOOLS_CLI_TERMINAL_LINES_H_
#define STRAKE_TOOLS_CLI_TERMINAL_LINES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace strake {

// The columns of the terminal behind a file descriptor, 0 if it is not a terminal.
int TerminalColumns(int fd);

// The columns that lines written to a file descriptor may have: $COLUMNS where that is a positive
// number, else the terminal's; 0, any number, where it is no terminal.
int LineColumns(int fd);

// The columns that a line of text takes: a character of Chinese, for example, takes two, an accent
// that is added to a letter none, and a byte that is not UTF-8 one.
int ColumnsOf(absl::string_view line);

// The longest beginning of a line that takes at most so many columns.
absl::string_view FitColumns(absl::string_view line, int columns);

// Breaks lines of more than `columns` at spaces, and where there are none between any characters.
// What follows is indented by 4 spaces where there is room. 0 breaks nothing. A character that is
// wider than `columns` has a line of its own.
std::string WrapLines(absl::string_view text, int columns);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_TERMINAL_LINES_H_
