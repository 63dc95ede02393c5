// The width of the terminal, and lines that are no wider.
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

// Breaks lines of more than `columns` at spaces, and where there are none anywhere. What follows is
// indented by 4 spaces where there is room. 0 breaks nothing.
std::string WrapLines(absl::string_view text, int columns);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_TERMINAL_LINES_H_
