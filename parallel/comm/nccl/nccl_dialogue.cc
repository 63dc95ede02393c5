#include "parallel/comm/nccl/nccl_dialogue.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

// Each message begins with one; another version of the protocol has others.
constexpr absl::string_view kHelloMark = "strakeH2", kChallengeMark = "strakeC2",
                            kProofMark = "strakeP2", kVerdictMark = "strakeV2";
constexpr size_t kMarkBytes = 8;

struct HelloBody {
  int32_t rank, size, has_secret;
  Bytes32 nonce;
};

struct VerdictBody {
  int32_t code;  // absl::StatusCode; 0: welcome
  int32_t text_bytes;
  Bytes32 proof;
};

constexpr size_t kHelloBytes = kMarkBytes + sizeof(HelloBody);
constexpr size_t kSecretBytes = kMarkBytes + sizeof(Bytes32);  // a challenge, a proof
constexpr size_t kVerdictBytes = kMarkBytes + sizeof(VerdictBody);

template <typename T>
void Append(std::string& bytes, const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
std::string Message(absl::string_view mark, const T& body) {
  std::string bytes(mark);
  Append(bytes, body);
  return bytes;
}

template <typename T>
T BodyOf(absl::string_view message) {
  T body;
  std::memcpy(&body, message.data() + kMarkBytes, sizeof(body));
  return body;
}

bool HasMark(absl::string_view message, absl::string_view mark) {
  return message.substr(0, kMarkBytes) == mark;
}

// What both sides know; `who` proves that it knows the secret as well.
std::string Transcript(absl::string_view who, int32_t rank, int32_t size,
                       const Bytes32& guest_nonce, const Bytes32& host_nonce) {
  std::string text(who);
  Append(text, rank);
  Append(text, size);
  Append(text, guest_nonce);
  Append(text, host_nonce);
  return text;
}

Bytes32 GuestProof(const std::string& secret, int rank, int size, const Bytes32& guest_nonce,
                   const Bytes32& host_nonce) {
  return HmacSha256(secret, Transcript("strake guest 2", rank, size, guest_nonce, host_nonce));
}

Bytes32 HostProof(const std::string& secret, int rank, int size, const Bytes32& guest_nonce,
                  const Bytes32& host_nonce, int32_t code, absl::string_view text) {
  std::string transcript = Transcript("strake host 2 ", rank, size, guest_nonce, host_nonce);
  Append(transcript, code);
  transcript.append(text.data(), text.size());
  return HmacSha256(secret, transcript);
}

constexpr const char* kVariables = "STRAKE_COMM_SECRET or STRAKE_COMM_SECRET_FILE";

}  // namespace

// --- The host. ---

size_t HostDialogue::num_wanted() const {
  return (challenged_ ? kSecretBytes : kHelloBytes) - received_.size();
}

absl::StatusOr<bool> HostDialogue::Receive(absl::string_view bytes, std::string* reply) {
  const absl::string_view mark = challenged_ ? kProofMark : kHelloMark;
  received_.append(bytes.data(), std::min(bytes.size(), num_wanted()));
  // Its first wrong byte gives a stranger away.
  const size_t mark_bytes = std::min(received_.size(), kMarkBytes);
  if (absl::string_view(received_).substr(0, mark_bytes) != mark.substr(0, mark_bytes)) {
    return absl::InvalidArgumentError("it is no process of this version of Strake");
  }
  if (mark_bytes == kMarkBytes) speaks_strake_ = true;
  if (num_wanted() > 0) return false;
  const absl::StatusOr<bool> done = challenged_ ? ReceiveProof() : ReceiveHello(reply);
  received_.clear();
  return done;
}

absl::StatusOr<bool> HostDialogue::ReceiveHello(std::string* reply) {
  const auto hello = BodyOf<HelloBody>(received_);
  rank_ = hello.rank;
  guest_size_ = hello.size;
  guest_nonce_ = hello.nonce;
  const bool has_secret = hello.has_secret != 0;
  if (has_secret && secret_.empty()) {
    return absl::UnauthenticatedError(
        absl::StrCat("[nccl] rank ", rank_, " has a secret, and rank 0 has none: give rank 0 the ",
                     "same ", kVariables));
  }
  if (!has_secret && !secret_.empty()) {
    return absl::UnauthenticatedError(absl::StrCat("[nccl] rank 0 asks for a secret, and rank ",
                                                   rank_, " has none: give rank ", rank_,
                                                   " the same ", kVariables, " as rank 0"));
  }
  if (secret_.empty()) {
    STRAKE_RETURN_IF_ERROR(CheckPlace());
    return true;
  }
  challenged_ = true;
  reply->append(Message(kChallengeMark, nonce_));
  return false;
}

absl::StatusOr<bool> HostDialogue::ReceiveProof() {
  const Bytes32 expected = GuestProof(secret_, rank_, guest_size_, guest_nonce_, nonce_);
  if (!EqualInConstantTime(BodyOf<Bytes32>(received_), expected)) {
    return absl::UnauthenticatedError(
        absl::StrCat("[nccl] rank ", rank_, " has another secret than rank 0: give all ranks the ",
                     "same ", kVariables));
  }
  STRAKE_RETURN_IF_ERROR(CheckPlace());
  return true;
}

// After the proof: strangers need not learn how many ranks there are.
absl::Status HostDialogue::CheckPlace() const {
  if (guest_size_ != size_) {
    return absl::InvalidArgumentError(absl::StrCat("[nccl] rank ", rank_,
                                                   " was started with WORLD_SIZE=", guest_size_,
                                                   ", and rank 0 with WORLD_SIZE=", size_));
  }
  if (rank_ == 0) {
    return absl::InvalidArgumentError("[nccl] two of the processes were started with RANK=0");
  }
  if (rank_ > 0 && rank_ < size_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("[nccl] a process was started with RANK=", rank_, " and WORLD_SIZE=", size_));
}

std::string HostDialogue::Verdict(const absl::Status& status, absl::string_view text) const {
  const std::string why(status.message());
  text = (status.ok() ? text : absl::string_view(why)).substr(0, kMaxVerdictTextBytes);
  VerdictBody body{.code = static_cast<int32_t>(status.code()),
                   .text_bytes = static_cast<int32_t>(text.size()),
                   .proof = {}};
  // Whoever is turned away gets no proof, by which it could try short secrets.
  if (challenged_ && status.ok()) {
    body.proof = HostProof(secret_, rank_, guest_size_, guest_nonce_, nonce_, body.code, text);
  }
  return Message(kVerdictMark, body).append(text.data(), text.size());
}

// --- A guest. ---

std::string GuestDialogue::Hello() const {
  return Message(
      kHelloMark,
      HelloBody{
          .rank = rank_, .size = size_, .has_secret = secret_.empty() ? 0 : 1, .nonce = nonce_});
}

absl::StatusOr<std::optional<std::string>> GuestDialogue::Receive(absl::string_view bytes,
                                                                  std::string* reply) {
  received_.append(bytes.data(), std::min(bytes.size(), num_wanted()));
  while (num_wanted() == 0) {
    if (code_) {
      STRAKE_ASSIGN_OR_RETURN(std::string text, Judge());
      return text;
    }
    STRAKE_RETURN_IF_ERROR(ReceiveHead(reply));
  }
  return std::nullopt;
}

// Takes a mark, a challenge, or a verdict without its text.
absl::Status GuestDialogue::ReceiveHead(std::string* reply) {
  const bool challenge = !secret_.empty() && !host_nonce_ && HasMark(received_, kChallengeMark);
  if (!challenge && !HasMark(received_, kVerdictMark)) {
    return absl::InvalidArgumentError("its answer is not that of rank 0 of this version of Strake");
  }
  if (received_.size() == kMarkBytes) {
    num_wanted_ = challenge ? kSecretBytes : kVerdictBytes;
    return absl::OkStatus();
  }
  if (!challenge) return ReceiveVerdictHead();
  host_nonce_ = BodyOf<Bytes32>(received_);
  reply->append(Message(kProofMark, GuestProof(secret_, rank_, size_, nonce_, *host_nonce_)));
  received_.clear();
  num_wanted_ = kHeadBytes;
  return absl::OkStatus();
}

absl::Status GuestDialogue::ReceiveVerdictHead() {
  const auto body = BodyOf<VerdictBody>(received_);
  if (body.text_bytes < 0 || body.text_bytes > kMaxVerdictTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("its answer has a text of ", body.text_bytes,
                                                   " bytes, and at most ", kMaxVerdictTextBytes,
                                                   " are allowed"));
  }
  if (body.code < 0 || body.code > static_cast<int>(absl::StatusCode::kUnauthenticated)) {
    return absl::InvalidArgumentError(absl::StrCat("its answer has the status ", body.code));
  }
  code_ = body.code;
  proof_ = body.proof;
  received_.clear();
  num_wanted_ = body.text_bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::string> GuestDialogue::Judge() const {
  // A refusal needs no proof: whoever is between the two can end the connection anyway.
  if (*code_ != 0) {
    return absl::Status(static_cast<absl::StatusCode>(*code_), Printable(received_));
  }
  if (secret_.empty()) return received_;
  if (host_nonce_ && EqualInConstantTime(proof_, HostProof(secret_, rank_, size_, nonce_,
                                                           *host_nonce_, *code_, received_))) {
    return received_;
  }
  return absl::UnauthenticatedError(
      absl::StrCat("[nccl] whoever listens at rank 0's address does not know the secret of rank ",
                   rank_, " (", kVariables, ")"));
}

}  // namespace strake
