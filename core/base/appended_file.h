// AppendedFile: a log that grows by whole records, on a disk that may be full for a while.
#ifndef STRAKE_CORE_BASE_APPENDED_FILE_H_
#define STRAKE_CORE_BASE_APPENDED_FILE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"

namespace strake {

// Sync() may be called on one thread while another appends. Errors name the path.
class AppendedFile {
 public:
  // Opens a file that is there, and no symbolic link. It may have `max_bytes`.
  static absl::StatusOr<AppendedFile> Open(const std::string& path, int64_t max_bytes);

  // Appends in one write, that other processes see at once. What a full or failing disk does not
  // take is kept, and written with what comes later.
  absl::Status Append(absl::string_view record);

  // Flushes the file to disk. After an error it may be called again.
  absl::Status Sync();

 private:
  AppendedFile(std::string path, FileDescriptor fd, int64_t max_bytes);
  absl::Status WriteUnwritten();
  absl::Status WriteAnew(const absl::Status& reason);

  std::string path_;
  int64_t max_bytes_;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  FileDescriptor fd_;  // only Sync() replaces it
  std::string unwritten_;
};

// Adds what was taken out of a damaged log to the file that keeps it, which is made where there is
// none.
absl::Status KeepDamaged(const std::string& path, absl::string_view damaged, int64_t max_bytes);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_APPENDED_FILE_H_
