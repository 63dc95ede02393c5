#include "tools/generating/write_text.h"

#include <cerrno>

#include "core/base/write_all.h"

namespace strake {

absl::Status WriteText(const std::string& text, std::ostream* out) {
  errno = 0;
  *out << text << std::flush;
  if (*out) return absl::OkStatus();
  // A stream without a file has no errno.
  if (errno == 0 || errno == EPIPE) return absl::UnavailableError("stdout was closed");
  return SystemError("write to", "stdout");
}

}  // namespace strake
