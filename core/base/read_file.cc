#include "core/base/read_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"

namespace strake {
namespace {

// Appends the rest of the file; returns 0, or the number of the error.
int ReadAll(int fd, std::string* text) {
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n == 0) return 0;
    if (n < 0 && errno != EINTR) return errno;
    if (n > 0) text->append(buffer, n);
  }
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  const int error = fd.valid() ? ReadAll(fd.get(), &text) : errno;
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot be read"));
  return text;
}

}  // namespace strake
