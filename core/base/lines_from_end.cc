#include "core/base/lines_from_end.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

constexpr size_t kBlockBytes = 1 << 18;  // stays in the cache

}  // namespace

LinesFromEnd::LinesFromEnd(std::string path, FileDescriptor file, int64_t num_bytes)
    : path_(std::move(path)),
      file_(std::move(file)),
      buffer_(kBlockBytes, '\n'),
      num_rest_(1),  // ends what follows the last line
      num_before_(num_bytes) {}

absl::StatusOr<LinesFromEnd> LinesFromEnd::Open(const std::string& path, int64_t max_bytes) {
  STRAKE_ASSIGN_OR_RETURN(OpenedFile opened, OpenToRead(path, max_bytes));
  LinesFromEnd lines(path, std::move(opened.file), opened.num_bytes);
  absl::string_view half;
  lines.Next(&half);
  STRAKE_RETURN_IF_ERROR(lines.status());
  return lines;
}

bool LinesFromEnd::Next(absl::string_view* line) {
  while (num_rest_ > 0) {
    const size_t size = num_rest_ - 1;
    const void* const end = memrchr(buffer_.data(), '\n', size);
    if (end == nullptr && num_before_ > 0) {
      if (!Load()) return false;
      continue;
    }
    const size_t begin = end == nullptr ? 0 : static_cast<const char*>(end) + 1 - buffer_.data();
    *line = absl::string_view(buffer_).substr(begin, size - begin);
    num_rest_ = begin;
    return true;
  }
  return false;
}

// Puts bytes of the file before those that are not taken yet.
bool LinesFromEnd::Load() {
  if (num_rest_ > buffer_.size() / 2) buffer_.resize(2 * buffer_.size());
  const size_t num_bytes = std::min<int64_t>(num_before_, buffer_.size() - num_rest_);
  memmove(&buffer_[num_bytes], buffer_.data(), num_rest_);
  for (size_t done = 0; done < num_bytes;) {
    const ssize_t n = pread(file_.get(), &buffer_[done], num_bytes - done,
                            num_before_ - static_cast<int64_t>(num_bytes - done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      status_ = n < 0 ? absl::ErrnoToStatus(errno, path_ + ": cannot be read")
                      : absl::UnavailableError(path_ + ": became shorter while it was read");
      num_rest_ = 0;
      return false;
    }
    done += n;
  }
  num_before_ -= static_cast<int64_t>(num_bytes);
  num_rest_ += num_bytes;
  return true;
}

}  // namespace strake
