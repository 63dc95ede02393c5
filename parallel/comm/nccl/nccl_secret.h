// The secret of a run: a process that does not know it cannot join.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_SECRET_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_SECRET_H_

#include <string>

#include "absl/status/statusor.h"

namespace strake {

// Whoever has seen a handshake can try short secrets one after another.
inline constexpr int kMinSecretBytes = 16;
inline constexpr int kMaxSecretBytes = 4096;

// Returns STRAKE_COMM_SECRET, or what the file STRAKE_COMM_SECRET_FILE holds, without white space
// at its ends; "" if neither is set. InvalidArgument if both are, if the secret is shorter than
// kMinSecretBytes or longer than kMaxSecretBytes, or if the file cannot be read; names the variable
// and the file, and never shows the secret.
absl::StatusOr<std::string> SecretFromEnvironment();

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_SECRET_H_
