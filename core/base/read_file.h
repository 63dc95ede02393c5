// ReadFile: a whole file as text.
#ifndef STRAKE_CORE_BASE_READ_FILE_H_
#define STRAKE_CORE_BASE_READ_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace strake {

// Returns the file's bytes; the string is empty for an empty file. An error names the path and the
// system's reason; it is NotFound if there is no such file.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_READ_FILE_H_
