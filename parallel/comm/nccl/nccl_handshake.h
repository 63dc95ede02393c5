// How the processes of a run meet: each connects to rank 0 over TCP, and all receive one text.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_HANDSHAKE_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_HANDSHAKE_H_

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"

namespace strake {

struct NcclConnections {
  // On rank 0: by rank, -1 for itself. On the others: one, to rank 0.
  std::vector<FileDescriptor> sockets;
  std::string text;
};

// What rank 0 grants those that it does not know yet.
struct StrangerLimits {
  // The time from the connection to the end of the handshake. A rank that is late connects again.
  std::chrono::milliseconds time{10000};
  // The most at a time, of less than 4 KiB of memory each; the oldest has to go.
  int number = 256;
};

// `text`, of at most 4096 bytes, is rank 0's; it is ignored on the others. Rank 0 turns away
// connections that are not from a process of Strake, that do not know the secret, or that have
// another WORLD_SIZE or a RANK that is there already, and waits on; ranks among them return an
// error that says so. Returns an error on every process that was let in for ranks that are missing
// at the timeout, with the number of connections that were turned away, and the last reason; for a
// port in use; and for an unknown host.
absl::StatusOr<NcclConnections> MeetOverTcp(const NcclRendezvous& rendezvous,
                                            std::chrono::milliseconds timeout,
                                            const std::string& text,
                                            const StrangerLimits& limits = {});

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_HANDSHAKE_H_
