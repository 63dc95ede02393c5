// WriteText: text on a stream that stands for stdout.
#ifndef STRAKE_TOOLS_GENERATING_WRITE_TEXT_H_
#define STRAKE_TOOLS_GENERATING_WRITE_TEXT_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace strake {

// Writes and flushes. Returns the system's error where the stream has one (a full disk), and
// Unavailable where its reader is gone or it failed before.
absl::Status WriteText(const std::string& text, std::ostream* out);

}  // namespace strake

#endif  // STRAKE_TOOLS_GENERATING_WRITE_TEXT_H_
