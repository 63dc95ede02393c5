#include "parallel/comm/nccl/nccl_secret.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/read_file.h"

namespace strake {
namespace {

constexpr const char* kVariable = "STRAKE_COMM_SECRET";
constexpr const char* kFileVariable = "STRAKE_COMM_SECRET_FILE";

absl::StatusOr<std::string> Checked(std::string secret, const std::string& where) {
  absl::StripAsciiWhitespace(&secret);
  const auto num_bytes = static_cast<int>(secret.size());
  if (num_bytes >= kMinSecretBytes && num_bytes <= kMaxSecretBytes) return secret;
  return absl::InvalidArgumentError(
      absl::StrCat("[nccl] ", where, " has a secret of ", num_bytes, " bytes, and not of ",
                   kMinSecretBytes, " to ", kMaxSecretBytes, "; `openssl rand -hex 32` makes one"));
}

}  // namespace

absl::StatusOr<std::string> SecretFromEnvironment() {
  const char* const secret = std::getenv(kVariable);
  const char* const path = std::getenv(kFileVariable);
  if (secret != nullptr && path != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("[nccl] ", kVariable, " and ", kFileVariable,
                                                   "=", path, " are both set: unset one of them"));
  }
  if (secret != nullptr) return Checked(secret, kVariable);
  if (path == nullptr) return std::string();
  // A file of twice the size is no secret with a few line ends.
  absl::StatusOr<std::string> text = ReadFile(path, /*max_bytes=*/2 * kMaxSecretBytes);
  const std::string where = absl::StrCat(kFileVariable, "=", path);
  if (text.ok()) return Checked(*std::move(text), where);
  return absl::InvalidArgumentError(absl::StrCat("[nccl] ", where, ": ", text.status().message()));
}

}  // namespace strake
