// Printable: text from outside, such as the names of files and tensors, for a terminal.
#ifndef STRAKE_CORE_BASE_PRINTABLE_H_
#define STRAKE_CORE_BASE_PRINTABLE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace strake {

// Shows control characters, which could move the cursor or change the terminal's state, as "\xNN":
// those of ASCII, and of Unicode the next 32 (C1). Line ends become spaces. The rest stays.
std::string Printable(absl::string_view text);
// The same for text of several lines: line ends ("\n") and tabs stay.
std::string PrintableLines(absl::string_view text);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_PRINTABLE_H_
