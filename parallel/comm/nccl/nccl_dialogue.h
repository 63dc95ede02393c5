// The two sides of a handshake between rank 0, the host, and another rank, its guest, as state
// machines that do no I/O.
//
//   guest -> host   hello: rank, number of ranks, whether it has a secret, a nonce
//   host -> guest   challenge: a nonce                           with a secret only
//   guest -> host   proof: HMAC(secret, guest, rank, size, both nonces)           "
//   host -> guest   verdict: why not, or a text, with HMAC(secret, host, ..., text)
//
// Either side shows that it knows the secret and does not show the secret. A proof serves once, for
// one rank and one direction. The guest shows it first, since anybody can connect to the host.
// Messages have one size, but for the verdict's text; numbers are those of the architecture.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_DIALOGUE_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_DIALOGUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "parallel/comm/nccl/hmac.h"

namespace strake {

inline constexpr int kMaxVerdictTextBytes = 4096;

// One guest, seen from the host.
class HostDialogue {
 public:
  // `secret` outlives it; empty: the host has none.
  HostDialogue(int size, const std::string& secret, const Bytes32& nonce)
      : size_(size), secret_(secret), nonce_(nonce) {}

  // How many bytes the guest's next message lacks: at most 128. It keeps no more of them.
  size_t num_wanted() const;

  // Takes at most num_wanted() bytes, and appends to `reply` what the host says. Returns true once
  // the guest is who it says that it is. An error is the reason for which it is turned away.
  absl::StatusOr<bool> Receive(absl::string_view bytes, std::string* reply);

  // Whether its first bytes were those of a process of Strake. To others the host says nothing.
  bool speaks_strake() const { return speaks_strake_; }
  // The guest's rank, from 1 to size - 1; once Receive() has returned true.
  int rank() const { return rank_; }

  // The last message: that the guest is let in, with `text`, or why it is not. Of a longer text
  // only the first kMaxVerdictTextBytes.
  std::string Verdict(const absl::Status& status, absl::string_view text) const;

 private:
  absl::StatusOr<bool> ReceiveHello(std::string* reply);
  absl::StatusOr<bool> ReceiveProof();
  absl::Status CheckPlace() const;

  const int size_;
  const std::string& secret_;
  const Bytes32 nonce_;
  bool speaks_strake_ = false, challenged_ = false;
  int guest_size_ = 0, rank_ = 0;
  Bytes32 guest_nonce_{};
  std::string received_;  // of a message that is not complete
};

// The host, seen from a guest.
class GuestDialogue {
 public:
  // `secret` outlives it; empty: the guest has none.
  GuestDialogue(int rank, int size, const std::string& secret, const Bytes32& nonce)
      : rank_(rank), size_(size), secret_(secret), nonce_(nonce) {}

  // The first message.
  std::string Hello() const;

  // How many bytes the host's next message lacks.
  size_t num_wanted() const { return num_wanted_ - received_.size(); }

  // Takes at most num_wanted() bytes, and appends to `reply` what the guest says. Returns the
  // verdict's text once it is there. An error is the verdict's, or says what the host lacks.
  absl::StatusOr<std::optional<std::string>> Receive(absl::string_view bytes, std::string* reply);

 private:
  absl::Status ReceiveHead(std::string* reply);
  absl::Status ReceiveVerdictHead();
  absl::StatusOr<std::string> Judge() const;

  const int rank_, size_;
  const std::string& secret_;
  const Bytes32 nonce_;
  std::optional<Bytes32> host_nonce_{};
  std::optional<int32_t> code_{};  // of the verdict, once its head has come
  Bytes32 proof_{};
  std::string received_;  // of a message that is not complete
  size_t num_wanted_ = kHeadBytes;
  static constexpr size_t kHeadBytes = 8;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_DIALOGUE_H_
