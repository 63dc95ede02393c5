#include "core/base/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/file_descriptor.h"
#include "core/base/format_quantity.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

absl::Status TooLarge(const std::string& path, int64_t max_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(path, ": has more than ", FormatBytes(max_bytes),
                                                   ", the most that such a file may have"));
}

absl::Status NotReadable(const std::string& path) {
  return absl::ErrnoToStatus(errno, path + ": cannot be read");
}

}  // namespace

absl::StatusOr<OpenedFile> OpenToRead(const std::string& path, int64_t max_bytes) {
  // Opening a pipe would otherwise wait for a writer.
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info;
  if (!file.valid() || fstat(file.get(), &info) != 0) return NotReadable(path);
  if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(path + ": cannot be read: it is not a regular file");
  }
  if (info.st_size > max_bytes) return TooLarge(path, max_bytes);
  return OpenedFile{std::move(file), info.st_size};
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  STRAKE_ASSIGN_OR_RETURN(const OpenedFile opened, OpenToRead(path, max_bytes));
  std::string text;
  text.reserve(opened.num_bytes);
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = read(opened.file.get(), buffer, sizeof(buffer));
    if (n == 0) return text;
    if (n < 0 && errno != EINTR) return NotReadable(path);
    if (n > 0) text.append(buffer, n);
    if (static_cast<int64_t>(text.size()) > max_bytes) return TooLarge(path, max_bytes);
  }
}

}  // namespace strake
