// How the processes of a run on GPUs, one per GPU, find each other.
//
// They are started either by a launcher that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
// MASTER_PORT in every process (torchrun does, and a loop in a shell script can), or by mpirun.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_RENDEZVOUS_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_RENDEZVOUS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"
#include "parallel/comm/communicator.h"

namespace strake {

struct NcclRendezvous {
  int rank = 0, size = 1;
  int local_rank = 0;  // among the processes of this machine: the GPU to use
  // Rank 0's: a name or an address, at which it listens and the others find it.
  std::string host = "127.0.0.1";
  int port = 0;
  // On rank 0: sockets that listen there already; without them, the port is bound.
  std::shared_ptr<std::vector<FileDescriptor>> listeners = nullptr;
  // What all ranks know and strangers do not. Empty: none is asked for. Never printed.
  std::string secret{};
};

// Returns true if the environment has any of RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
// MASTER_PORT.
bool HasNcclRendezvousEnvironment();

// Reads the rendezvous from these variables, and the secret (nccl_secret.h); a missing LOCAL_RANK
// is taken to be RANK. Where torchrun's agent keeps MASTER_PORT for itself
// (TORCHELASTIC_USE_AGENT_STORE=True), rank 0 listens on the next port. InvalidArgument names the
// variable that is missing or malformed, and its value.
absl::StatusOr<NcclRendezvous> NcclRendezvousFromEnvironment();

// Agrees on a rendezvous over `world`, a group of processes with tensors on the CPU (MPI's). Every
// rank calls it: rank 0 chooses a port of its machine and a secret, and tells the others. It
// listens at 127.0.0.1 if all are on one machine, else at every address.
absl::StatusOr<NcclRendezvous> NcclRendezvousOver(Communicator& world);

// Sockets that listen on `port` of every address of this machine that `host` stands for, or, for
// port 0, on a free port, which is written to *port. "" stands for every address. So does, with a
// warning, a name without an address of this machine (a service that forwards), or with loopback
// addresses alone (this host's own name, which others know under another address). Errors name
// host, port and the system's reason.
absl::StatusOr<std::vector<FileDescriptor>> ListenAt(const std::string& host, int* port);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_RENDEZVOUS_H_
