#include "parallel/comm/nccl/nccl_handshake.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "parallel/comm/nccl/hmac.h"
#include "parallel/comm/nccl/nccl_dialogue.h"

namespace strake {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kRetryInterval(50);
// An address that is silent must not take the time of a host's other addresses.
constexpr milliseconds kTimeToConnect(3000);
// Rank 0's own timeout ends first, and its error names the missing ranks.
constexpr milliseconds kPatienceForTheSentence(2000);
// Accepted before the clock and the other connections are looked at again.
constexpr int kMaxAcceptsPerTurn = 64;
// Ranks that an error names one by one.
constexpr size_t kMaxRanksNamed = 16;
// Of the connections that are turned away, the first are logged; a flood is only counted.
constexpr int kMaxRefusalsLogged = 8;

// Rounded up: a wait that ends a little before its deadline would begin again at once.
int MillisecondsUntil(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1000000));
}

bool WaitFor(int fd, short events, Clock::time_point deadline) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  return poll(&waiting, 1, MillisecondsUntil(deadline)) > 0;
}

// "10.0.0.7:41234".
std::string TextOf(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof(host), port,
                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "an unknown address";
  }
  return absl::StrCat(address.ss_family == AF_INET6 ? "[" : "", host,
                      address.ss_family == AF_INET6 ? "]:" : ":", port);
}

// --- Rank 0. ---

// A connection of which it is not known who it is.
struct Guest {
  FileDescriptor socket;
  std::string address;
  Clock::time_point deadline;
  HostDialogue dialogue;
};
// Its buffer and its address come on top, a few bytes each.
static_assert(sizeof(Guest) <= 1024);

// A rank that was let in. Until all are there it has nothing to say.
struct Member {
  FileDescriptor socket;
  std::string address;
  HostDialogue dialogue;
};

// Sends it if the system takes it at once: a message is smaller than the buffer of a socket, and
// whoever fills that buffer before is not waited for.
void SendNow(int fd, const std::string& bytes) {
  if (!bytes.empty()) (void)send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

class Doorkeeper {
 public:
  Doorkeeper(const NcclRendezvous& rendezvous, milliseconds timeout, const StrangerLimits& limits)
      : rendezvous_(rendezvous),
        timeout_(timeout),
        limits_(limits),
        deadline_(Clock::now() + timeout),
        members_(rendezvous.size) {}

  absl::StatusOr<NcclConnections> Meet(const std::vector<FileDescriptor>& listeners,
                                       const std::string& text) {
    const absl::Status status = LetEveryoneIn(listeners);
    NcclConnections connections{.sockets = {}, .text = text};
    for (std::optional<Member>& member : members_) {
      if (member) SendNow(member->socket.get(), member->dialogue.Verdict(status, text));
      connections.sockets.push_back(member ? std::move(member->socket) : FileDescriptor(-1));
    }
    if (!status.ok()) return status;
    return connections;
  }

 private:
  absl::Status LetEveryoneIn(const std::vector<FileDescriptor>& listeners) {
    while (num_in_ < rendezvous_.size) {
      Poll(listeners);
      for (const FileDescriptor& listener : listeners) STRAKE_RETURN_IF_ERROR(Accept(listener));
      HearGuests();
      MissMembers();
      // Whatever goes on at the sockets, the clock is looked at.
      if (num_in_ < rendezvous_.size && Clock::now() >= deadline_) return MissingRanks();
    }
    return absl::OkStatus();
  }

  // Waits until a socket is readable or the next deadline is over.
  void Poll(const std::vector<FileDescriptor>& listeners) const {
    std::vector<pollfd> polled;
    const auto add = [&](int fd) { polled.push_back({.fd = fd, .events = POLLIN, .revents = 0}); };
    Clock::time_point next = deadline_;
    for (const FileDescriptor& listener : listeners) add(listener.get());
    for (const Guest& guest : guests_) {
      add(guest.socket.get());
      next = std::min(next, guest.deadline);
    }
    for (const std::optional<Member>& member : members_) {
      if (member) add(member->socket.get());
    }
    (void)poll(polled.data(), polled.size(), MillisecondsUntil(next));
  }

  absl::Status Accept(const FileDescriptor& listener) {
    for (int i = 0; i < kMaxAcceptsPerTurn; ++i) {
      sockaddr_storage address = {};
      socklen_t size = sizeof(address);
      FileDescriptor socket(accept4(listener.get(), reinterpret_cast<sockaddr*>(&address), &size,
                                    SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!socket.valid() && (errno == EMFILE || errno == ENFILE)) {
        STRAKE_RETURN_IF_ERROR(MakeRoomForFile());
        continue;
      }
      if (!socket.valid() && errno == EAGAIN) break;
      if (!socket.valid()) continue;  // its other end has gone already
      guests_.push_back(
          {.socket = std::move(socket),
           .address = TextOf(address, size),
           .deadline = Clock::now() + limits_.time,
           .dialogue = HostDialogue(rendezvous_.size, rendezvous_.secret, RandomBytes32())});
      // A rank that has said everything before it was accepted is not among the oldest.
      if (Hear(guests_.back())) guests_.pop_back();
      while (static_cast<int>(guests_.size()) > limits_.number) DropOldest();
    }
    return absl::OkStatus();
  }

  void DropOldest() {
    Refuse(guests_.front(), absl::ResourceExhaustedError(absl::StrCat(
                                "it was the oldest of more than ", limits_.number,
                                " connections of which it is not known who they are")));
    guests_.pop_front();
  }

  absl::Status MakeRoomForFile() {
    if (guests_.empty()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("[nccl] rank 0 cannot open a connection to each of ", rendezvous_.size - 1,
                       " other ranks: ", std::strerror(errno), "; raise the limit (ulimit -n)"));
    }
    DropOldest();
    return absl::OkStatus();
  }

  void HearGuests() {
    const Clock::time_point now = Clock::now();
    for (auto guest = guests_.begin(); guest != guests_.end();) {
      bool gone = Hear(*guest);
      if (!gone && now >= guest->deadline) {
        gone = true;
        Refuse(*guest, absl::DeadlineExceededError(absl::StrCat("it did not say who it is within ",
                                                                limits_.time.count(), " ms")));
      }
      guest = gone ? guests_.erase(guest) : std::next(guest);
    }
  }

  // Returns true if it is no guest any more: it was let in, or turned away.
  bool Hear(Guest& guest) {
    while (true) {
      char bytes[128];
      const size_t wanted = std::min(sizeof(bytes), guest.dialogue.num_wanted());
      const ssize_t num_bytes = recv(guest.socket.get(), bytes, wanted, 0);
      if (num_bytes < 0 && errno == EINTR) continue;
      if (num_bytes < 0 && errno == EAGAIN) return false;
      if (num_bytes <= 0) {
        Refuse(guest, absl::UnavailableError("it went without saying who it is"));
        return true;
      }
      std::string reply;
      absl::StatusOr<bool> known =
          guest.dialogue.Receive(absl::string_view(bytes, num_bytes), &reply);
      SendNow(guest.socket.get(), reply);
      if (known.ok() && !*known) continue;
      const absl::Status status = known.ok() ? LetIn(guest) : known.status();
      if (!status.ok()) Refuse(guest, status);
      return true;
    }
  }

  absl::Status LetIn(Guest& guest) {
    std::optional<Member>& member = members_[guest.dialogue.rank()];
    if (member) {
      return absl::AlreadyExistsError(
          absl::StrCat("[nccl] two of the processes were started with RANK=", guest.dialogue.rank(),
                       ": one at ", member->address, " came before the one at ", guest.address));
    }
    member.emplace(Member{std::move(guest.socket), std::move(guest.address), guest.dialogue});
    ++num_in_;
    return absl::OkStatus();
  }

  void Refuse(const Guest& guest, const absl::Status& reason) {
    // Those that speak our language are told why.
    if (guest.dialogue.speaks_strake() && absl::StartsWith(reason.message(), "[nccl]")) {
      SendNow(guest.socket.get(), guest.dialogue.Verdict(reason, ""));
      last_rank_refused_ = std::string(reason.message());
    }
    last_refused_ = absl::StrCat(guest.address, ": ", reason.message());
    if (++num_refused_ <= kMaxRefusalsLogged) {
      LOG(WARNING) << "[nccl] rank 0 turned away a connection from " << last_refused_;
    }
  }

  // A rank that has gone may come again, as another process.
  void MissMembers() {
    for (std::optional<Member>& member : members_) {
      char byte;
      if (!member) continue;
      const ssize_t num_bytes = recv(member->socket.get(), &byte, sizeof(byte), MSG_PEEK);
      if (num_bytes < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (++num_refused_ <= kMaxRefusalsLogged) {
        LOG(WARNING) << "[nccl] rank " << member->dialogue.rank() << " at " << member->address
                     << (num_bytes > 0 ? " spoke" : " went") << " before all ranks were there";
      }
      member.reset();
      --num_in_;
    }
  }

  absl::Status MissingRanks() const {
    std::vector<int> missing;
    for (int rank = 1; rank < rendezvous_.size; ++rank) {
      if (!members_[rank]) missing.push_back(rank);
    }
    const size_t num_missing = missing.size();
    missing.resize(std::min(num_missing, kMaxRanksNamed));
    std::string text = absl::StrCat("[nccl] ", num_missing == 1 ? "rank " : "ranks ",
                                    absl::StrJoin(missing, ", "));
    if (num_missing > missing.size()) {
      absl::StrAppend(&text, " and ", num_missing - missing.size(), " more");
    }
    absl::StrAppend(&text, " of ", rendezvous_.size, " did not come to rank 0 at ",
                    rendezvous_.host, ":", rendezvous_.port, " within ", timeout_.count(), " ms");
    if (num_refused_ > 0) {
      absl::StrAppend(&text, "; ", num_refused_,
                      num_refused_ == 1 ? " connection was" : " connections were",
                      " turned away, the last: ",
                      last_rank_refused_.empty() ? last_refused_ : last_rank_refused_);
    }
    return absl::DeadlineExceededError(text);
  }

  const NcclRendezvous& rendezvous_;
  const milliseconds timeout_;
  const StrangerLimits limits_;
  const Clock::time_point deadline_;
  std::list<Guest> guests_;                     // the oldest first
  std::vector<std::optional<Member>> members_;  // by rank
  int num_in_ = 1;
  int64_t num_refused_ = 0;
  // Of ranks that were told why, the reason is worth more than that of any stranger.
  std::string last_refused_, last_rank_refused_;
};

// Whether others than processes of this machine can connect.
bool IsOpenToOthers(const std::vector<FileDescriptor>& listeners, std::string* address) {
  for (const FileDescriptor& listener : listeners) {
    sockaddr_storage bound = {};
    socklen_t size = sizeof(bound);
    getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size);
    *address = TextOf(bound, size);
    if (!absl::StartsWith(*address, "127.") && !absl::StartsWith(*address, "[::1]")) return true;
  }
  return false;
}

absl::StatusOr<NcclConnections> MeetAtRankZero(const NcclRendezvous& rendezvous,
                                               const std::vector<FileDescriptor>& listeners,
                                               milliseconds timeout, const std::string& text,
                                               const StrangerLimits& limits) {
  std::string address;
  if (rendezvous.size > 1 && rendezvous.secret.empty() && IsOpenToOthers(listeners, &address)) {
    LOG(WARNING) << "[nccl] rank 0 listens at " << address << " and asks for no secret: whoever "
                 << "can connect can take part in the run; set STRAKE_COMM_SECRET or "
                 << "STRAKE_COMM_SECRET_FILE on every rank, or close the network to others";
  }
  return Doorkeeper(rendezvous, timeout, limits).Meet(listeners, text);
}

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
      FileDescriptor fd = TryToConnect(*address, std::min(deadline, Clock::now() + kTimeToConnect));
      if (fd.valid()) return fd;
    }
    std::this_thread::sleep_for(kRetryInterval);
  } while (Clock::now() < deadline);
  return FileDescriptor(-1);
}

// Rank 0 may have had to drop a connection of which it did not know who it is.
enum class Ended { kWithText, kWithError, kEarly };

// Speaks with rank 0 until the verdict, the deadline, or the end of the connection.
Ended Speak(int fd, GuestDialogue dialogue, Clock::time_point deadline, absl::Status* error,
            std::string* text) {
  std::string to_say = dialogue.Hello();
  while (true) {
    // A few bytes: the buffer of a connection always has room for them.
    if (!to_say.empty() && send(fd, to_say.data(), to_say.size(), MSG_NOSIGNAL) < 0) {
      return Ended::kEarly;
    }
    to_say.clear();
    if (!WaitFor(fd, POLLIN, deadline) && Clock::now() >= deadline) return Ended::kEarly;
    char bytes[256];
    const ssize_t num_bytes = recv(fd, bytes, std::min(sizeof(bytes), dialogue.num_wanted()), 0);
    if (num_bytes < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (num_bytes <= 0) return Ended::kEarly;
    absl::StatusOr<std::optional<std::string>> verdict =
        dialogue.Receive(absl::string_view(bytes, num_bytes), &to_say);
    if (!verdict.ok()) {
      *error = verdict.status();
      return Ended::kWithError;
    }
    if (!verdict->has_value()) continue;
    *text = **std::move(verdict);
    return Ended::kWithText;
  }
}

absl::StatusOr<NcclConnections> JoinRankZero(const NcclRendezvous& rendezvous,
                                             milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  const char* what = "could not be reached";
  do {
    STRAKE_ASSIGN_OR_RETURN(FileDescriptor socket, ConnectToRankZero(rendezvous, deadline));
    if (!socket.valid()) break;
    what = "did not answer";
    NcclConnections connections;
    absl::Status error;
    const Ended ended =
        Speak(socket.get(),
              GuestDialogue(rendezvous.rank, rendezvous.size, rendezvous.secret, RandomBytes32()),
              deadline + kPatienceForTheSentence, &error, &connections.text);
    if (ended == Ended::kWithError) {
      if (absl::StartsWith(error.message(), "[nccl]")) return error;
      return absl::Status(error.code(), absl::StrCat("[nccl] at ", rendezvous.host, ":",
                                                     rendezvous.port, ", ", error.message()));
    }
    if (ended == Ended::kWithText) {
      connections.sockets.push_back(std::move(socket));
      return connections;
    }
    std::this_thread::sleep_for(kRetryInterval);
  } while (Clock::now() < deadline);
  return absl::DeadlineExceededError(absl::StrCat(
      "[nccl] rank 0 at ", rendezvous.host, ":", rendezvous.port, " ", absl::string_view(what),
      " within ", timeout.count(), " ms: rank ", rendezvous.rank, " of ", rendezvous.size,
      " waits for it; was it started, with the same MASTER_ADDR and MASTER_PORT?"));
}

}  // namespace

absl::StatusOr<NcclConnections> MeetOverTcp(const NcclRendezvous& rendezvous, milliseconds timeout,
                                            const std::string& text, const StrangerLimits& limits) {
  if (rendezvous.rank > 0) return JoinRankZero(rendezvous, timeout);
  if (rendezvous.listeners != nullptr) {
    return MeetAtRankZero(rendezvous, *rendezvous.listeners, timeout, text, limits);
  }
  int port = rendezvous.port;
  STRAKE_ASSIGN_OR_RETURN(const std::vector<FileDescriptor> listeners,
                          ListenAt(rendezvous.host, &port));
  return MeetAtRankZero(rendezvous, listeners, timeout, text, limits);
}

}  // namespace strake
