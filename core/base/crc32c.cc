#include "core/base/crc32c.h"

#include <algorithm>

// Newer abseil has it, Debian 12's has not: that has ISA-L.
#if __has_include("absl/crc/crc32c.h")
#include "absl/crc/crc32c.h"
#else
#include "isa-l/crc.h"
#endif

namespace strake {

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view data) {
#if __has_include("absl/crc/crc32c.h")
  return static_cast<uint32_t>(absl::ExtendCrc32c(absl::crc32c_t{crc}, data));
#else
  constexpr size_t kMaxBytes = size_t{1} << 30;  // of a call, which takes an int
  uint32_t inverted = ~crc;
  while (!data.empty()) {
    const size_t num_bytes = std::min(data.size(), kMaxBytes);
    // The library's pointer is to bytes that it only reads.
    auto* const bytes = reinterpret_cast<unsigned char*>(const_cast<char*>(data.data()));
    inverted = crc32_iscsi(bytes, static_cast<int>(num_bytes), inverted);
    data.remove_prefix(num_bytes);
  }
  return ~inverted;
#endif
}

}  // namespace strake
