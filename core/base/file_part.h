// FilePart: the checksum of a stretch of a file.
#ifndef STRAKE_CORE_BASE_FILE_PART_H_
#define STRAKE_CORE_BASE_FILE_PART_H_

#include <cstdint>
#include <string>

namespace strake {

struct FilePart {
  std::string name = {};  // of a tensor; "" for anything else
  int64_t num_bytes = 0;
  uint32_t crc32c = 0;

  friend bool operator==(const FilePart&, const FilePart&) = default;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_FILE_PART_H_
