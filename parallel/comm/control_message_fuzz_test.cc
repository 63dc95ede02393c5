// Bytes as a control message: an error, or a message that comes back the same, whose call can be
// checked, and which is taken by a process that waits. Also a good message of each type with some
// bytes changed, which reaches further.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "glog/logging.h"
#include "parallel/comm/call_matching.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/liveness.h"

namespace strake {
namespace {

// Process 0 of 3, which waits, and asks.
void TakeByLiveness(const ControlMessage& message) {
  const Liveness::Time start{};
  int num_failures = 0;
  Liveness liveness(
      {.id = 0, .process = 0, .size = 3}, [](const ControlMessage&) {}, [&] { ++num_failures; });
  const ProcessGroup group{.id = 7, .axis = "tp", .rank = 0, .processes = {0, 1, 2}};
  liveness.Started(group, {.kind = CollectiveKind::kBarrier});
  Liveness::Wait wait{.group = group, .what = "the fuzzer"};
  liveness.Begin(&wait, start);
  liveness.Check(start);
  for (int i = 0; i < 2; ++i) (void)liveness.Receive(message, start);
  liveness.Check(start + Liveness::kAnswerTime);
  CHECK_LE(num_failures, 1);
  CHECK_EQ(num_failures, liveness.failure().ok() ? 0 : 1);
  liveness.End(&wait);
}

void Take(const std::string& bytes) {
  const auto decode = [](const std::string& encoded) {
    return DecodeControlMessage(
        absl::MakeConstSpan(reinterpret_cast<const std::byte*>(encoded.data()), encoded.size()));
  };
  const absl::StatusOr<ControlMessage> message = decode(bytes);
  if (!message.ok()) return;
  const std::string encoded = EncodeControlMessage(*message);
  const absl::StatusOr<ControlMessage> again = decode(encoded);
  CHECK(again.ok()) << again.status();
  CHECK(EncodeControlMessage(*again) == encoded);
  for (const int size : {1, 2, 3}) {
    for (int rank = 0; rank < size; ++rank) (void)CheckCall(message->call, rank, size);
  }
  TakeByLiveness(*message);
}

std::string GoodMessage(int which) {
  ControlMessage message{.type = static_cast<ControlMessage::Type>(which % 6), .from = 1, .to = 0};
  message.call = {.kind = CollectiveKind::kAllToAll,
                  .count = 3,
                  .counts = {1, 2},
                  .recv_counts = {1, 2},
                  .site = {.file = "a.cc", .line = 1}};
  message.axis = "tp";
  message.payload.resize(12);
  message.progress = {{.group = 7, .num_started = 1}};
  if (message.type == ControlMessage::Type::kFail) message.failure = absl::InternalError("why");
  return EncodeControlMessage(message);
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  strake::Take(std::string(reinterpret_cast<const char*>(data), size));
  if (size == 0) return 0;
  // After the number of the message, pairs of a place and a byte.
  std::string changed = strake::GoodMessage(data[0]);
  for (size_t i = 1; i + 1 < size; i += 2) {
    changed[data[i] % changed.size()] = static_cast<char>(data[i + 1]);
  }
  strake::Take(changed);
  return 0;
}
