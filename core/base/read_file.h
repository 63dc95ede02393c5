// ReadFile: a whole file as text.
#ifndef STRAKE_CORE_BASE_READ_FILE_H_
#define STRAKE_CORE_BASE_READ_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace strake {

// The file's bytes, none of an empty one. An error, NotFound where there is no such file, that
// names the path and the system's reason.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_READ_FILE_H_
