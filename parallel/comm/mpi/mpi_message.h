// Control messages between processes, as bytes.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_MESSAGE_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "parallel/comm/collective_call.h"

namespace strake {

struct MpiMessage {
  enum class Type : uint8_t {
    kJoin,   // rank `from` of the group has started `call`
    kLeave,  // rank `from` has left the group
    kFail,   // the world `group` has failed with `failure`
    kAsk,    // process `from`, whose wait timed out, waits for this one in the world `group`
    kWait,   // the answer to kAsk of process `from`, if it waits itself
  };
  Type type = Type::kJoin;
  uint64_t group = 0;
  int from = 0;
  CollectiveCall call = {};          // without its buffers
  int tag = 0;                       // of the data that `from` receives
  uint64_t offered_id = 0;           // split: the new group's id, if `from` is its first rank
  std::vector<std::byte> payload{};  // small data
  absl::Status failure = {};
  bool aborted = false;  // kFail: by a call of Abort()
};

// Serializes for a process of the same program, on a machine of the same architecture. Texts are
// truncated so that all but counts and payload take at most kMaxMpiMessageTextBytes.
inline constexpr int64_t kMaxMpiMessageTextBytes = 2048;
std::string EncodeMpiMessage(const MpiMessage& message);
MpiMessage DecodeMpiMessage(absl::Span<const std::byte> bytes);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_MESSAGE_H_
