// FileMapping: a file's bytes in memory, read only.
#ifndef STRAKE_CORE_BASE_FILE_MAPPING_H_
#define STRAKE_CORE_BASE_FILE_MAPPING_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_descriptor.h"

namespace strake {

class FileMapping {
 public:
  // Maps the first `num_bytes` > 0 of an open file. Changes that others make to it may show. `path`
  // is for messages. An error has the system's reason alone.
  static absl::StatusOr<FileMapping> Map(const std::string& path, const FileDescriptor& file,
                                         size_t num_bytes);
  FileMapping() = default;

  absl::string_view bytes() const;

 private:
  struct Region;
  struct Unmap {
    void operator()(const Region* region) const;
  };
  std::unique_ptr<const Region, Unmap> region_;
};

// The path of the file that is mapped at an address, or null. To read there raises SIGBUS once the
// file has become shorter, or where the disk fails: a signal handler may call this.
const char* PathOfMapping(const void* address);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_FILE_MAPPING_H_
