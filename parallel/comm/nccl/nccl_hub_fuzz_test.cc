// Frames from three processes to rank 0: the hub matches calls, moves data and makes groups, or
// names what cannot be. The input is a list of steps: who speaks, which message, and bytes of it to
// change.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "parallel/comm/nccl/nccl_connection.h"
#include "parallel/comm/nccl/nccl_hub.h"

namespace strake {
namespace {

constexpr int kNumProcesses = 3;

ControlMessage GoodJoin(int kind, int rank, int64_t sequence) {
  ControlMessage join{.from = rank, .to = 0};
  CollectiveCall& call = join.call;
  call.kind = static_cast<CollectiveKind>(kind % kNumCollectiveKinds);
  call.sequence = sequence;
  switch (call.kind) {
    case CollectiveKind::kAllGather:
    case CollectiveKind::kReduceScatterSum:
      call.counts = {1, 0, 2};
      break;
    case CollectiveKind::kAllToAll:
      call.counts = call.recv_counts = {1, 1, 1};
      break;
    case CollectiveKind::kBroadcast:
      call.peer = 1;
      break;
    case CollectiveKind::kSend:
      call.peer = (rank + 1) % kNumProcesses;
      break;
    case CollectiveKind::kRecv:
      call.peer = (rank + 2) % kNumProcesses;
      break;
    default:
      break;
  }
  const bool moves = call.kind != CollectiveKind::kBarrier && call.kind != CollectiveKind::kSplit;
  call.count = moves ? 3 : 0;
  join.payload.resize(InputBytes(call, rank));
  return join;
}

// Takes bytes from the front of an input; 0 after its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  int Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

void Check(const std::vector<ControlMessage>& results) {
  for (const ControlMessage& result : results) {
    if (result.type == ControlMessage::Type::kFail) {
      CHECK(!result.failure.ok());
      continue;
    }
    CHECK(result.type == ControlMessage::Type::kResult);
    CHECK(result.to >= 0 && result.to < kNumProcesses) << result.to;
  }
}

void Run(Input input) {
  NcclHub hub(kNumProcesses);
  std::vector<NcclFrameReader> readers(kNumProcesses);
  while (!input.empty()) {
    const int process = input.Byte() % kNumProcesses;
    const int what = input.Byte();
    if (what == 255) {
      Check(hub.Leave(process));
      continue;
    }
    std::string frame = EncodeNcclFrame(GoodJoin(what, process, input.Byte() % 4));
    for (int num_changes = input.Byte() % 4; num_changes > 0; --num_changes) {
      const int at = input.Byte();
      frame[at % frame.size()] = static_cast<char>(input.Byte());
    }
    std::vector<ControlMessage> messages;
    if (!readers[process].Read(frame, &messages).ok()) return;
    for (ControlMessage& message : messages) {
      if (message.type != ControlMessage::Type::kJoin) continue;
      const auto results = hub.Join(process, std::move(message));
      if (!results.ok()) return;
      Check(*results);
    }
  }
}

}  // namespace
}  // namespace strake

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // As a stream of its own, too, and as the answer to a split.
  strake::NcclFrameReader reader;
  std::vector<strake::ControlMessage> messages;
  (void)reader.Read(absl::string_view(reinterpret_cast<const char*>(data), size), &messages);
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  (void)strake::NcclSplit::Decode(std::vector<std::byte>(bytes, bytes + size), 1, 3);
  strake::Run({data, size});
  return 0;
}
