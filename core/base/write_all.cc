#include "core/base/write_all.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace strake {

absl::Status SystemError(const char* what, const std::string& path, int error) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", what, " ", path));
}

bool IsErrorOfADisk(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnknown(status);
}

absl::Status WriteFrom(int fd, absl::string_view* data, const std::string& path) {
  while (!data->empty()) {
    const ssize_t written = write(fd, data->data(), data->size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("write to", path);
    data->remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, absl::string_view data, const std::string& path) {
  return WriteFrom(fd, &data, path);
}

}  // namespace strake
