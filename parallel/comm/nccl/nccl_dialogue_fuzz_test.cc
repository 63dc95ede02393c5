// Bytes as what a guest says to rank 0, and as what rank 0 says to a guest, with and without a
// secret, in pieces of several sizes. Without the secret nobody gets in, and no guest takes a
// verdict for rank 0's.
#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "parallel/comm/nccl/nccl_dialogue.h"

namespace strake {
namespace {

void SayToHost(absl::string_view bytes, const std::string& secret, size_t piece) {
  HostDialogue dialogue(/*size=*/3, secret, Bytes32{});
  std::string reply;
  while (!bytes.empty()) {
    CHECK(dialogue.num_wanted() > 0 && dialogue.num_wanted() <= 128) << dialogue.num_wanted();
    const size_t taken = std::min({piece, bytes.size(), dialogue.num_wanted()});
    const absl::StatusOr<bool> known = dialogue.Receive(bytes.substr(0, taken), &reply);
    CHECK_LE(reply.size(), 128);
    CHECK(dialogue.Verdict(known.status(), "text").size() < 8192);
    if (!known.ok()) return;
    if (*known) {
      CHECK(secret.empty());
      CHECK(dialogue.rank() > 0 && dialogue.rank() < 3) << dialogue.rank();
      return;
    }
    bytes.remove_prefix(taken);
  }
}

void SayToGuest(absl::string_view bytes, const std::string& secret, size_t piece) {
  GuestDialogue dialogue(/*rank=*/1, /*size=*/3, secret, Bytes32{});
  std::string reply;
  while (!bytes.empty()) {
    CHECK(dialogue.num_wanted() > 0 && dialogue.num_wanted() <= kMaxVerdictTextBytes);
    const size_t taken = std::min({piece, bytes.size(), dialogue.num_wanted()});
    const auto verdict = dialogue.Receive(bytes.substr(0, taken), &reply);
    CHECK_LE(reply.size(), 128);
    if (!verdict.ok()) return;
    if (verdict->has_value()) {
      CHECK(secret.empty());
      CHECK_LE((*verdict)->size(), static_cast<size_t>(kMaxVerdictTextBytes));
      return;
    }
    bytes.remove_prefix(taken);
  }
}

// A good start, of each message, and then the input.
void Say(absl::string_view bytes) {
  const std::string none, secret = "correct horse battery staple";
  for (const std::string* const mine : {&none, &secret}) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{1000}}) {
      const std::string input(bytes);
      SayToHost(bytes, *mine, piece);
      SayToHost("strakeH2" + input, *mine, piece);
      const std::string hello = GuestDialogue(1, 3, *mine, Bytes32{}).Hello();
      SayToHost(hello + input, *mine, piece);
      SayToHost(hello + "strakeP2" + input, *mine, piece);
      SayToGuest(bytes, *mine, piece);
      SayToGuest("strakeV2" + input, *mine, piece);
      SayToGuest("strakeC2" + std::string(32, 'n') + "strakeV2" + input, *mine, piece);
    }
  }
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  strake::Say(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
