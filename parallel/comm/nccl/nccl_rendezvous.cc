#include "parallel/comm/nccl/nccl_rendezvous.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/philox.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

constexpr const char* kVariables[] = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR",
                                      "MASTER_PORT"};
constexpr int kMaxHostBytes = 256;
constexpr int kMaxPort = 65535;

absl::StatusOr<std::string> Variable(const char* name) {
  const char* const text = std::getenv(name);
  if (text != nullptr && *text != '\0') return std::string(text);
  return absl::InvalidArgumentError(
      absl::StrCat("[nccl] ", name, " is not set: every process needs RANK, WORLD_SIZE, ",
                   "MASTER_ADDR and MASTER_PORT in its environment, or mpirun to start it"));
}

absl::StatusOr<int> Number(const char* name, int lowest, int highest) {
  STRAKE_ASSIGN_OR_RETURN(const std::string text, Variable(name));
  int value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= lowest && value <= highest) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("[nccl] ", name, "=", text, " is not a number from ", lowest, " to ", highest));
}

// torchrun's agent listens there itself, unless it is configured to leave that to rank 0.
bool TorchrunHoldsMasterPort() {
  const char* const text = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  return text != nullptr && absl::string_view(text) == "True";
}

// A bound socket of one family, or -1.
int BoundSocket(int family, int port) {
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1, off = 0;
  // A run that follows another one does not have to wait for the port.
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in6 any6 = {};
  sockaddr_in any4 = {};
  any6.sin6_family = AF_INET6;
  any4.sin_family = AF_INET;
  any6.sin6_port = any4.sin_port = htons(static_cast<uint16_t>(port));
  const bool is6 = family == AF_INET6;
  if (is6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  const auto* const address =
      is6 ? reinterpret_cast<sockaddr*>(&any6) : reinterpret_cast<sockaddr*>(&any4);
  if (bind(fd, address, is6 ? sizeof(any6) : sizeof(any4)) == 0 && listen(fd, SOMAXCONN) == 0) {
    return fd;
  }
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

std::string HostName() {
  char name[kMaxHostBytes] = {};
  gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

bool HasNcclRendezvousEnvironment() {
  for (const char* name : kVariables) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

absl::StatusOr<NcclRendezvous> NcclRendezvousFromEnvironment() {
  NcclRendezvous rendezvous;
  STRAKE_ASSIGN_OR_RETURN(rendezvous.size, Number("WORLD_SIZE", 1, INT_MAX));
  STRAKE_ASSIGN_OR_RETURN(rendezvous.rank, Number("RANK", 0, INT_MAX));
  if (rendezvous.rank >= rendezvous.size) {
    return absl::InvalidArgumentError(absl::StrCat("[nccl] RANK=", rendezvous.rank,
                                                   " is not below WORLD_SIZE=", rendezvous.size));
  }
  rendezvous.local_rank = rendezvous.rank;
  if (std::getenv("LOCAL_RANK") != nullptr) {
    STRAKE_ASSIGN_OR_RETURN(rendezvous.local_rank, Number("LOCAL_RANK", 0, INT_MAX));
  }
  STRAKE_ASSIGN_OR_RETURN(rendezvous.host, Variable("MASTER_ADDR"));
  STRAKE_ASSIGN_OR_RETURN(rendezvous.port, Number("MASTER_PORT", 1, kMaxPort));
  if (TorchrunHoldsMasterPort()) rendezvous.port += rendezvous.port < kMaxPort ? 1 : -1;
  return rendezvous;
}

absl::StatusOr<NcclRendezvous> NcclRendezvousOver(Communicator& world) {
  NcclRendezvous rendezvous{.rank = world.rank(), .size = world.size(), .host = HostName()};
  // Hashes of the hosts, to number the processes of each; and rank 0's name and port.
  int64_t own_hash = static_cast<int64_t>(StableHash(rendezvous.host));
  std::vector<int64_t> hashes(world.size());
  STRAKE_RETURN_IF_ERROR(world
                             .AllGather(Tensor(&own_hash, DType::kI64, {1}),
                                        Tensor(hashes.data(), DType::kI64, {world.size()}))
                             .Wait()
                             .status());
  for (int r = 0; r < world.rank(); ++r) rendezvous.local_rank += hashes[r] == own_hash;
  if (world.rank() == 0) {
    absl::StatusOr<FileDescriptor> listener = ListenOnPort(&rendezvous.port);
    if (!listener.ok()) {
      world.Abort(listener.status());
      return listener.status();
    }
    rendezvous.listener = std::make_shared<FileDescriptor>(std::move(*listener));
  }
  // One number per character: a broadcast has no dtype for text.
  std::vector<int32_t> told(kMaxHostBytes + 1);
  told[kMaxHostBytes] = rendezvous.port;
  for (size_t i = 0; i < rendezvous.host.size(); ++i) told[i] = rendezvous.host[i];
  STRAKE_RETURN_IF_ERROR(
      world.Broadcast(Tensor(told.data(), DType::kI32, {kMaxHostBytes + 1}), 0).Wait().status());
  rendezvous.port = told[kMaxHostBytes];
  std::string host;
  for (int i = 0; told[i] != 0; ++i) host.push_back(static_cast<char>(told[i]));
  // A host may be unable to resolve its own name.
  rendezvous.host = hashes[0] == own_hash ? "127.0.0.1" : host;
  return rendezvous;
}

absl::StatusOr<FileDescriptor> ListenOnPort(int* port) {
  int fd = BoundSocket(AF_INET6, *port);  // serves IPv4 too
  if (fd < 0 && errno != EADDRINUSE) fd = BoundSocket(AF_INET, *port);
  if (fd < 0) {
    return absl::UnavailableError(absl::StrCat("[nccl] rank 0 cannot listen on port ", *port, ": ",
                                               std::strerror(errno),
                                               "; give every process another MASTER_PORT"));
  }
  *port = PortOf(fd);
  return FileDescriptor(fd);
}

}  // namespace strake
