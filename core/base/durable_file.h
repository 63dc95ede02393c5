// Files and folders that survive a crash of the machine.
//
// Every function that can fail returns an error that names the path and the system's reason.
#ifndef STRAKE_CORE_BASE_DURABLE_FILE_H_
#define STRAKE_CORE_BASE_DURABLE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace strake {

// Replaces or creates the file. At every moment, also after a crash, `path` holds all of the old
// contents or all of the new. Writes to "PATH.tmp" on the way.
absl::Status WriteFileDurably(const std::string& path, absl::string_view text);

// Creates the folder, and any missing folders above it.
absl::Status MakeDirectoriesDurably(const std::string& path);

// Flushes a file's contents, or a folder's list of names, to the disk.
absl::Status SyncPath(const std::string& path);

// Flushes every file and folder in `directory`, itself included.
absl::Status SyncTree(const std::string& directory);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_DURABLE_FILE_H_
