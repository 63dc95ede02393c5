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

// `text` is rank 0's; it is ignored on the others. Connections that are not from a process of
// Strake are rejected. Returns an error, one sentence, on every process that connected: for ranks
// that are missing at the timeout, for ranks started with another WORLD_SIZE or with the same RANK,
// for a port in use, and for an unknown host.
absl::StatusOr<NcclConnections> MeetOverTcp(const NcclRendezvous& rendezvous,
                                            std::chrono::milliseconds timeout,
                                            const std::string& text);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_HANDSHAKE_H_
