// What processes tell each other about their calls and their failures, as bytes; over MPI and TCP.
#ifndef STRAKE_PARALLEL_COMM_CONTROL_MESSAGE_H_
#define STRAKE_PARALLEL_COMM_CONTROL_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "parallel/comm/collective_call.h"

namespace strake {

// How many collectives of a group, or messages of a pair of its ranks, a process has started.
struct CallProgress {
  uint64_t group = 0;
  int sender = -1, receiver = -1;  // ranks of the group; -1 for collectives
  int64_t num_started = 0;
};

struct ControlMessage {
  enum class Type : uint8_t {
    kJoin,    // rank `from` of the group has started `call`
    kResult,  // the end of the receiver's call with this tag; the payload is its part of the result
    kLeave,   // rank `from` has left the group
    // Failures (liveness.h). The group is the world, of which `from` is a process.
    kFail,    // all groups have failed with `failure`
    kAsk,     // a wait of `from` has timed out, after `tag` ms; `flag`: for the receiver
    kAnswer,  // `flag`: `from` waits itself; `progress`: of what it has started
  };
  static constexpr int kEveryProcess = -1;

  Type type = Type::kJoin;
  uint64_t group = 0;
  int from = 0;
  int to = kEveryProcess;            // of the world
  CollectiveCall call = {};          // without its buffers
  int64_t tag = 0;                   // kJoin: of what `from` receives
  uint64_t offered_id = 0;           // split: the new group's id, if `from` is its first rank
  std::string axis{};                // kJoin, where not all ranks know the group
  std::vector<std::byte> payload{};  // small data
  std::vector<CallProgress> progress{};
  absl::Status failure = {};
  bool flag = false;  // kFail: by a call of Abort()
};

// Serializes for a process of the same program, on a machine of the same architecture. Texts are
// truncated so that all but counts, payload and progress take at most kMaxControlTextBytes.
inline constexpr int64_t kMaxControlTextBytes = 2048;
std::string EncodeControlMessage(const ControlMessage& message);

// InvalidArgument unless `bytes` are exactly one message whose enums have values and whose failure
// is one, and is there for kFail alone; names what is wrong and its value. Nothing is allocated for
// lengths that the bytes do not have. Ranks, counts and ids are not checked: CheckCall().
absl::StatusOr<ControlMessage> DecodeControlMessage(absl::Span<const std::byte> bytes);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_CONTROL_MESSAGE_H_
