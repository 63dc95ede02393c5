#include "parallel/comm/nccl/hmac.h"

#include <sys/random.h>

#include <cerrno>

#include "glog/logging.h"
#include "openssl/crypto.h"
#include "openssl/evp.h"
#include "openssl/hmac.h"

namespace strake {

Bytes32 HmacSha256(absl::string_view key, absl::string_view message) {
  Bytes32 digest{};
  unsigned num_bytes = 0;
  const auto* const data = reinterpret_cast<const unsigned char*>(message.data());
  const void* const made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), data,
                                message.size(), digest.data(), &num_bytes);
  // A digest that was not computed must not pass for one.
  CHECK(made != nullptr && num_bytes == digest.size()) << "[nccl] the library has no HMAC-SHA256";
  return digest;
}

bool EqualInConstantTime(const Bytes32& a, const Bytes32& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Bytes32 RandomBytes32() {
  Bytes32 bytes{};
  ssize_t got = -1;
  do {
    got = getrandom(bytes.data(), bytes.size(), 0);
  } while (got < 0 && errno == EINTR);
  PCHECK(got == static_cast<ssize_t>(bytes.size())) << "[nccl] no random bytes";
  return bytes;
}

absl::string_view AsText(const Bytes32& bytes) {
  return absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace strake
