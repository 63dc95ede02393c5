// Files and folders that are still there after the machine crashed.
//
// Every function that can fail returns an error that names the path and the system's reason.
#ifndef STRAKE_CORE_BASE_DURABLE_FILE_H_
#define STRAKE_CORE_BASE_DURABLE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

// Replaces the file or makes it: at every moment, also after a crash, `path` holds all of the old
// contents or all of the new. Writes to "PATH.tmp" on the way.
absl::Status WriteFileDurably(const std::string& path, absl::string_view text);

// Makes the folder, and those above it where they are missing.
absl::Status MakeDirectoriesDurably(const std::string& path);

// Flushes a file's contents, or a folder's list of names, to the disk.
absl::Status SyncPath(const std::string& path);

// Flushes every file and folder in `directory`, itself included.
absl::Status SyncTree(const std::string& directory);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_DURABLE_FILE_H_
