// How the processes of a run meet: each connects to rank 0 over TCP, and all learn one text.
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
  // Rank 0: by rank, -1 for itself. Others: one, to rank 0.
  std::vector<FileDescriptor> sockets;
  std::string text;
};

// `text` is rank 0's; others' is ignored. What is not a process of Strake is turned away. Errors,
// one sentence, on every process that came: ranks that are missing when the timeout is over, ranks
// started with another WORLD_SIZE or with the same RANK, a port in use, a host that is unknown.
absl::StatusOr<NcclConnections> MeetOverTcp(const NcclRendezvous& rendezvous,
                                            std::chrono::milliseconds timeout,
                                            const std::string& text);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_HANDSHAKE_H_
