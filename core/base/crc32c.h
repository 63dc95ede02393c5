// CRC-32C (Castagnoli), which finds each error of up to 32 neighbouring bits.
//
// Source: RFC 3720, appendix B.4.
#ifndef STRAKE_CORE_BASE_CRC32C_H_
#define STRAKE_CORE_BASE_CRC32C_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace strake {

// The checksum of what `crc` is the checksum of, followed by `data`. That of nothing is 0.
uint32_t ExtendCrc32c(uint32_t crc, absl::string_view data);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_CRC32C_H_
