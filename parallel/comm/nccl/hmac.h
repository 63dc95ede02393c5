// HMAC-SHA256 (RFC 2104), and what else a proof that one knows a secret needs.
#ifndef STRAKE_PARALLEL_COMM_NCCL_HMAC_H_
#define STRAKE_PARALLEL_COMM_NCCL_HMAC_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace strake {

using Bytes32 = std::array<uint8_t, 32>;

Bytes32 HmacSha256(absl::string_view key, absl::string_view message);

// Takes the same time wherever the bytes differ.
bool EqualInConstantTime(const Bytes32& a, const Bytes32& b);

// Takes them from the system's generator, which nobody can predict.
Bytes32 RandomBytes32();

// The bytes as text.
absl::string_view AsText(const Bytes32& bytes);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_HMAC_H_
