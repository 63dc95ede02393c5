// LinesFromEnd: the lines of a file from the last to the first, in memory that they do not fill.
#ifndef STRAKE_CORE_BASE_LINES_FROM_END_H_
#define STRAKE_CORE_BASE_LINES_FROM_END_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"

namespace strake {

class LinesFromEnd {
 public:
  // Opens a file that others may append to: what they add is not read, and what follows the last
  // line's end, as half a line does, is left out. Errors are ReadFile()'s.
  static absl::StatusOr<LinesFromEnd> Open(const std::string& path, int64_t max_bytes);

  // Takes the line before the last one that was taken, without its end; it is valid until the next
  // call. Returns false at the file's beginning and after an error, which status() has.
  bool Next(absl::string_view* line);

  // Not OK where the file could not be read to its beginning, with its path.
  const absl::Status& status() const { return status_; }

 private:
  LinesFromEnd(std::string path, FileDescriptor file, int64_t num_bytes);
  bool Load();

  std::string path_;
  FileDescriptor file_;
  std::string buffer_;
  size_t num_rest_;     // of the bytes of buffer_, from its beginning: what is not taken yet
  int64_t num_before_;  // bytes of the file before these
  absl::Status status_;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_LINES_FROM_END_H_
