#include "parallel/comm/nccl/nccl_handshake.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr char kMagic[8] = {'s', 't', 'r', 'a', 'k', 'e', '0', '1'};
constexpr milliseconds kRetryInterval(50);
// Rank 0's own timeout ends first, and its error names the missing ranks.
constexpr milliseconds kPatienceForTheSentence(2000);

struct Hello {
  char magic[8];
  int32_t rank, size;
};

struct Verdict {
  char magic[8];
  int32_t code;  // absl::StatusCode; 0: welcome
  int32_t text_bytes;
};

int MillisecondsUntil(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1000000));
}

bool WaitFor(int fd, short events, Clock::time_point deadline) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  return poll(&waiting, 1, MillisecondsUntil(deadline)) > 0;
}

// --- Rank 0. ---

void SendVerdict(int fd, const absl::Status& status, const std::string& text) {
  const std::string told = status.ok() ? text : std::string(status.message());
  Verdict verdict{.magic = {},
                  .code = static_cast<int32_t>(status.code()),
                  .text_bytes = static_cast<int32_t>(told.size())};
  std::memcpy(verdict.magic, kMagic, sizeof(kMagic));
  std::string bytes(reinterpret_cast<const char*>(&verdict), sizeof(verdict));
  bytes += told;
  // Fewer than a socket takes at once.
  (void)send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

enum class Heard { kNothingYet, kHello, kStranger };

Heard Listen(int fd, Hello* hello) {
  const ssize_t bytes = recv(fd, hello, sizeof(*hello), MSG_PEEK | MSG_DONTWAIT);
  if (bytes < 0) return errno == EAGAIN ? Heard::kNothingYet : Heard::kStranger;
  const size_t magic_bytes = std::min<size_t>(bytes, sizeof(kMagic));
  if (bytes == 0 || std::memcmp(hello->magic, kMagic, magic_bytes) != 0) return Heard::kStranger;
  if (bytes < static_cast<ssize_t>(sizeof(*hello))) return Heard::kNothingYet;
  (void)recv(fd, hello, sizeof(*hello), MSG_DONTWAIT);
  return Heard::kHello;
}

class Doorkeeper {
 public:
  Doorkeeper(const NcclRendezvous& rendezvous, milliseconds timeout)
      : rendezvous_(rendezvous), timeout_(timeout) {
    for (int rank = 0; rank < rendezvous.size; ++rank) sockets_.emplace_back(-1);
  }

  absl::StatusOr<NcclConnections> Meet(int listener, const std::string& text) {
    const absl::Status status = LetEveryoneIn(listener);
    for (const FileDescriptor& socket : sockets_) {
      if (socket.valid()) SendVerdict(socket.get(), status, text);
    }
    for (const FileDescriptor& socket : waiting_) {
      if (!status.ok()) SendVerdict(socket.get(), status, text);
    }
    if (!status.ok()) return status;
    return NcclConnections{std::move(sockets_), text};
  }

 private:
  absl::Status LetEveryoneIn(int listener) {
    const Clock::time_point deadline = Clock::now() + timeout_;
    while (num_in_ < rendezvous_.size) {
      std::vector<pollfd> polled = {{.fd = listener, .events = POLLIN, .revents = 0}};
      for (const FileDescriptor& socket : waiting_) {
        polled.push_back({.fd = socket.get(), .events = POLLIN, .revents = 0});
      }
      if (poll(polled.data(), polled.size(), MillisecondsUntil(deadline)) <= 0 &&
          Clock::now() >= deadline) {
        return MissingRanks();
      }
      if (polled[0].revents != 0) {
        FileDescriptor socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (socket.valid()) waiting_.push_back(std::move(socket));
      }
      STRAKE_RETURN_IF_ERROR(HearTheWaiting());
    }
    return absl::OkStatus();
  }

  absl::Status HearTheWaiting() {
    std::vector<FileDescriptor> still_waiting;
    absl::Status status;
    for (FileDescriptor& socket : waiting_) {
      Hello hello;
      const Heard heard = Listen(socket.get(), &hello);
      if (heard == Heard::kHello) status.Update(LetIn(hello, &socket));
      if (socket.valid() && heard != Heard::kStranger) still_waiting.push_back(std::move(socket));
    }
    waiting_ = std::move(still_waiting);
    return status;
  }

  absl::Status LetIn(const Hello& hello, FileDescriptor* socket) {
    if (hello.size != rendezvous_.size) {
      return absl::InvalidArgumentError(
          absl::StrCat("[nccl] rank ", hello.rank, " was started with WORLD_SIZE=", hello.size,
                       ", and rank 0 with WORLD_SIZE=", rendezvous_.size));
    }
    if (hello.rank <= 0 || hello.rank >= hello.size || sockets_[hello.rank].valid()) {
      return absl::InvalidArgumentError(
          absl::StrCat("[nccl] two of the processes were started with RANK=", hello.rank));
    }
    sockets_[hello.rank] = std::move(*socket);
    ++num_in_;
    return absl::OkStatus();
  }

  absl::Status MissingRanks() const {
    std::vector<int> missing;
    for (int rank = 1; rank < rendezvous_.size; ++rank) {
      if (!sockets_[rank].valid()) missing.push_back(rank);
    }
    return absl::DeadlineExceededError(absl::StrCat(
        "[nccl] ", missing.size() == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "), " of ",
        rendezvous_.size, " did not come to rank 0 at ", rendezvous_.host, ":", rendezvous_.port,
        " within ", timeout_.count(), " ms"));
  }

  const NcclRendezvous& rendezvous_;
  const milliseconds timeout_;
  std::vector<FileDescriptor> sockets_, waiting_;
  int num_in_ = 1;
};

// --- The other ranks. ---

// TCP can connect a socket to itself, where no process listens on the port yet and the kernel also
// chooses it for this end.
bool IsConnectedToItself(int fd) {
  sockaddr_storage here = {}, there = {};
  socklen_t size_here = sizeof(here), size_there = sizeof(there);
  getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size_here);
  getpeername(fd, reinterpret_cast<sockaddr*>(&there), &size_there);
  return size_here == size_there && std::memcmp(&here, &there, size_here) == 0;
}

FileDescriptor TryToConnect(const addrinfo& address, Clock::time_point deadline) {
  FileDescriptor fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fd;
  int error = connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  socklen_t size = sizeof(error);
  if (error == EINPROGRESS && WaitFor(fd.get(), POLLOUT, deadline)) {
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  return error == 0 && !IsConnectedToItself(fd.get()) ? std::move(fd) : FileDescriptor(-1);
}

absl::StatusOr<FileDescriptor> ConnectToRankZero(const NcclRendezvous& rendezvous,
                                                 Clock::time_point deadline) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const std::string port = absl::StrCat(rendezvous.port);
  if (const int error = getaddrinfo(rendezvous.host.c_str(), port.c_str(), &hints, &found)) {
    return absl::InvalidArgumentError(absl::StrCat("[nccl] MASTER_ADDR=", rendezvous.host,
                                                   " is no known host: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  do {
    for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
      FileDescriptor fd = TryToConnect(*address, deadline);
      if (fd.valid()) return fd;
    }
    std::this_thread::sleep_for(kRetryInterval);
  } while (Clock::now() < deadline);
  return FileDescriptor(-1);
}

bool ReadExactly(int fd, void* data, size_t num_bytes, Clock::time_point deadline) {
  size_t done = 0;
  while (done < num_bytes && WaitFor(fd, POLLIN, deadline)) {
    const ssize_t bytes = recv(fd, static_cast<char*>(data) + done, num_bytes - done, 0);
    if (bytes == 0 || (bytes < 0 && errno != EAGAIN && errno != EINTR)) return false;
    done += bytes > 0 ? bytes : 0;
  }
  return done == num_bytes;
}

absl::StatusOr<NcclConnections> JoinRankZero(const NcclRendezvous& rendezvous,
                                             milliseconds timeout) {
  const auto silent = [&](const char* what) {
    return absl::DeadlineExceededError(absl::StrCat(
        "[nccl] rank 0 at ", rendezvous.host, ":", rendezvous.port, " ", what, " within ",
        timeout.count(), " ms: rank ", rendezvous.rank, " of ", rendezvous.size,
        " waits for it; was it started, with the same MASTER_ADDR and MASTER_PORT?"));
  };
  const Clock::time_point deadline = Clock::now() + timeout;
  STRAKE_ASSIGN_OR_RETURN(FileDescriptor socket, ConnectToRankZero(rendezvous, deadline));
  if (!socket.valid()) return silent("could not be reached");
  Hello hello{.magic = {}, .rank = rendezvous.rank, .size = rendezvous.size};
  std::memcpy(hello.magic, kMagic, sizeof(kMagic));
  (void)send(socket.get(), &hello, sizeof(hello), MSG_NOSIGNAL);
  Verdict verdict;
  if (!ReadExactly(socket.get(), &verdict, sizeof(verdict), deadline + kPatienceForTheSentence) ||
      std::memcmp(verdict.magic, kMagic, sizeof(kMagic)) != 0) {
    return silent("did not answer");
  }
  NcclConnections connections{.sockets = {}, .text = std::string(verdict.text_bytes, '\0')};
  if (!ReadExactly(socket.get(), connections.text.data(), connections.text.size(),
                   deadline + kPatienceForTheSentence)) {
    return silent("did not answer");
  }
  if (verdict.code != 0) {
    return absl::Status(static_cast<absl::StatusCode>(verdict.code), connections.text);
  }
  connections.sockets.push_back(std::move(socket));
  return connections;
}

}  // namespace

absl::StatusOr<NcclConnections> MeetOverTcp(const NcclRendezvous& rendezvous, milliseconds timeout,
                                            const std::string& text) {
  if (rendezvous.rank > 0) return JoinRankZero(rendezvous, timeout);
  if (rendezvous.listener != nullptr) {
    return Doorkeeper(rendezvous, timeout).Meet(rendezvous.listener->get(), text);
  }
  int port = rendezvous.port;
  STRAKE_ASSIGN_OR_RETURN(const FileDescriptor listener, ListenOnPort(&port));
  return Doorkeeper(rendezvous, timeout).Meet(listener.get(), text);
}

}  // namespace strake
