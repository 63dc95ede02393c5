#include "parallel/comm/nccl/nccl_rendezvous.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
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
#include "glog/logging.h"
#include "parallel/comm/nccl/hmac.h"
#include "parallel/comm/nccl/nccl_secret.h"

namespace strake {
namespace {

constexpr const char* kVariables[] = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR",
                                      "MASTER_PORT"};
constexpr int kMaxHostBytes = 256;
constexpr int kMaxPort = 65535;
constexpr const char* kLoopback = "127.0.0.1";

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

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

// Resolves a host, or, for "", every address. An error is getaddrinfo's.
int Resolve(const std::string& host, int flags, Addresses* addresses) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_PASSIVE;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(), host.empty() ? "0" : nullptr,
                                &hints, &found);
  if (error == 0) addresses->reset(found);
  return error;
}

void SetPort(sockaddr* address, int port) {
  const uint16_t number = htons(static_cast<uint16_t>(port));
  if (address->sa_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = number;
  } else {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = number;
  }
}

// A socket that listens at an address, or an invalid one, and errno.
FileDescriptor Listen(const addrinfo& address, int port) {
  FileDescriptor fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fd;
  const int on = 1;
  // A run that follows another one does not have to wait for the port.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // IPv4 has sockets of its own.
  if (address.ai_family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  SetPort(address.ai_addr, port);
  const bool listens =
      bind(fd.get(), address.ai_addr, address.ai_addrlen) == 0 && listen(fd.get(), SOMAXCONN) == 0;
  return listens ? std::move(fd) : FileDescriptor(-1);
}

int PortIn(const sockaddr* address) {
  return ntohs(address->sa_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6*>(address)->sin6_port
                   : reinterpret_cast<const sockaddr_in*>(address)->sin_port);
}

int PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return PortIn(reinterpret_cast<sockaddr*>(&address));
}

// True if this machine has no such address, or no such kind of address.
bool IsNotHere(int error) { return error == EADDRNOTAVAIL || error == EAFNOSUPPORT; }

// A file of hosts may give a name the same address twice.
bool IsRepeated(const addrinfo* addresses, const addrinfo* address) {
  for (; addresses != address; addresses = addresses->ai_next) {
    // Ports of the earlier ones are set already.
    SetPort(address->ai_addr, PortIn(addresses->ai_addr));
    if (addresses->ai_addrlen == address->ai_addrlen &&
        std::memcmp(addresses->ai_addr, address->ai_addr, address->ai_addrlen) == 0) {
      return true;
    }
  }
  return false;
}

// Listens at each of the addresses that this machine has. Empty, and errno: at none.
std::vector<FileDescriptor> ListenAtEach(const addrinfo* addresses, int* port) {
  std::vector<FileDescriptor> listeners;
  int number = *port, error = EADDRNOTAVAIL;
  for (const addrinfo* address = addresses; address != nullptr; address = address->ai_next) {
    if (IsRepeated(addresses, address)) continue;
    FileDescriptor fd = Listen(*address, number);
    if (fd.valid()) {
      number = PortOf(fd.get());
      listeners.push_back(std::move(fd));
    } else if (!IsNotHere(errno)) {
      error = errno;
      listeners.clear();
      break;
    }
  }
  if (!listeners.empty()) *port = number;
  errno = error;
  return listeners;
}

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  }
  const auto* const address4 = reinterpret_cast<const sockaddr_in*>(address);
  return ntohl(address4->sin_addr.s_addr) >> 24 == 127;
}

// Whether only this machine knows the host by these addresses.
bool IsOwnName(const std::string& host, const addrinfo* addresses) {
  Addresses literal(nullptr, freeaddrinfo);
  if (host == "localhost" || Resolve(host, AI_NUMERICHOST, &literal) == 0) return false;
  for (const addrinfo* address = addresses; address != nullptr; address = address->ai_next) {
    if (!IsLoopback(address->ai_addr)) return false;
  }
  return true;
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
  STRAKE_ASSIGN_OR_RETURN(rendezvous.secret, SecretFromEnvironment());
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
  const bool one_machine =
      std::all_of(hashes.begin(), hashes.end(), [&](int64_t hash) { return hash == hashes[0]; });
  if (world.rank() == 0) {
    auto listeners = ListenAt(one_machine ? kLoopback : "", &rendezvous.port);
    if (!listeners.ok()) {
      world.Abort(listeners.status());
      return listeners.status();
    }
    rendezvous.listeners = std::make_shared<std::vector<FileDescriptor>>(*std::move(listeners));
    rendezvous.secret = std::string(AsText(RandomBytes32()));
  }
  // One number per character: a broadcast has no dtype for text.
  constexpr int kPortAt = kMaxHostBytes, kSecretAt = kPortAt + 1;
  std::vector<int32_t> told(kSecretAt + sizeof(Bytes32));
  std::copy(rendezvous.host.begin(), rendezvous.host.end(), told.begin());
  told[kPortAt] = rendezvous.port;
  std::copy(rendezvous.secret.begin(), rendezvous.secret.end(), told.begin() + kSecretAt);
  const Tensor message(told.data(), DType::kI32, {static_cast<int64_t>(told.size())});
  STRAKE_RETURN_IF_ERROR(world.Broadcast(message, 0).Wait().status());
  rendezvous.port = told[kPortAt];
  std::string host;
  for (int i = 0; told[i] != 0; ++i) host.push_back(static_cast<char>(told[i]));
  // A host may be unable to resolve its own name.
  rendezvous.host = hashes[0] == own_hash ? kLoopback : host;
  rendezvous.secret.assign(told.begin() + kSecretAt, told.end());
  return rendezvous;
}

absl::StatusOr<std::vector<FileDescriptor>> ListenAt(const std::string& host, int* port) {
  Addresses addresses(nullptr, freeaddrinfo);
  if (const int error = Resolve(host, 0, &addresses)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "[nccl] rank 0 cannot listen at MASTER_ADDR=", host, ": ", gai_strerror(error)));
  }
  const bool own_name = !host.empty() && IsOwnName(host, addresses.get());
  std::vector<FileDescriptor> listeners;
  if (!own_name) {
    // With any free port, the other addresses may have that one in use.
    for (int attempt = 0; listeners.empty() && attempt < (*port == 0 ? 10 : 1); ++attempt) {
      listeners = ListenAtEach(addresses.get(), port);
    }
    if (!listeners.empty()) return listeners;
    if (host.empty() || !IsNotHere(errno)) {
      return absl::UnavailableError(absl::StrCat("[nccl] rank 0 cannot listen on port ", *port,
                                                 " of ", host.empty() ? "this machine" : host, ": ",
                                                 std::strerror(errno),
                                                 "; give every process another MASTER_PORT"));
    }
  }
  LOG(WARNING) << "[nccl] rank 0 listens at every address of this machine, since MASTER_ADDR="
               << host << (own_name ? " is a loopback address here" : " is no address of it");
  return ListenAt("", port);
}

}  // namespace strake
