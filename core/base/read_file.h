// ReadFile: a whole file as text.
#ifndef STRAKE_CORE_BASE_READ_FILE_H_
#define STRAKE_CORE_BASE_READ_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"

namespace strake {

// More than any configuration has.
inline constexpr int64_t kMaxTextBytes = int64_t{64} << 20;

// Returns the file's bytes; the string is empty for an empty file. An error names the path and the
// reason. It is NotFound if there is no such file, InvalidArgument for a pipe or a device, which
// may never end, and ResourceExhausted for a file of more than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = kMaxTextBytes);

struct OpenedFile {
  FileDescriptor file;
  int64_t num_bytes;  // when it was opened
};

// Opens a file to read parts of it. Errors are ReadFile()'s.
absl::StatusOr<OpenedFile> OpenToRead(const std::string& path, int64_t max_bytes);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_READ_FILE_H_
