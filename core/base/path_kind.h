// PathKind: what stands at a path, told apart from what cannot be known.
#ifndef STRAKE_CORE_BASE_PATH_KIND_H_
#define STRAKE_CORE_BASE_PATH_KIND_H_

#include <string>

#include "absl/status/statusor.h"

namespace strake {

enum class PathKind { kNothing, kFile, kDirectory, kOther };

// Follows symbolic links. kOther is a pipe, a device or a socket. Returns an error, naming the path
// and the system's reason, where the system does not say what there is: a disk may be away.
// NotFound for a symbolic link to nothing, for the same reason.
absl::StatusOr<PathKind> PathKindOf(const std::string& path);

// The folder that a path is in: "." of a name alone.
std::string FolderOf(const std::string& path);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_PATH_KIND_H_
