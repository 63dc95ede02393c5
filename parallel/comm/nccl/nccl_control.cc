#include "parallel/comm/nccl/nccl_control.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

using std::chrono::milliseconds;
using Type = ControlMessage::Type;

// How often the thread checks the timeouts.
constexpr milliseconds kTick(100);
// How long the news of a process's death may take.
constexpr milliseconds kNewsTime(500);
// How long processes give each other to learn of a failure, and to send their pending messages.
constexpr milliseconds kPatience(2000);
// The largest data of a call; the frame of its result has room for more.
constexpr int64_t kMaxPayloadBytes = kMaxNcclFrameBytes / 2;
// The longest pause between polls.
constexpr std::chrono::microseconds kLongestPause(200);

}  // namespace

// Registers a wait during its lifetime.
class NcclControl::Waiting {
 public:
  Waiting(Liveness* liveness, const ProcessGroup& group, const CollectiveCall* call,
          const std::string& what)
      : liveness_(liveness), wait_{.group = group, .call = call, .what = what} {
    liveness_->Begin(&wait_, Clock::now());
  }
  ~Waiting() { liveness_->End(&wait_); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  Liveness* const liveness_;
  Liveness::Wait wait_;
};

NcclControl::NcclControl(int rank, int size, NcclConnections connections,
                         std::function<void()> on_failure)
    : rank_(rank),
      size_(size),
      on_failure_(std::move(on_failure)),
      liveness_(
          {.id = 0, .process = rank, .size = size, .relay = 0},
          [this](const ControlMessage& message) { Post(message); },
          [this] {
            changed_.notify_all();
            Wake();
          }) {
  connections_.resize(size);
  for (size_t i = 0; i < connections.sockets.size(); ++i) {
    FileDescriptor& socket = connections.sockets[i];
    if (socket.valid()) connections_[i] = std::make_unique<NcclConnection>(std::move(socket));
  }
  if (rank == 0) hub_ = std::make_unique<NcclHub>(size);
  int ends[2];
  CHECK_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0) << "[nccl] no pipe";
  wake_read_ = FileDescriptor(ends[0]);
  wake_write_ = FileDescriptor(ends[1]);
  thread_ = std::thread([this] { Loop(); });
}

NcclControl::~NcclControl() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (liveness_.failure().ok()) Post({.type = Type::kLeave, .from = rank_});
    const auto all_sent = [&] {
      return std::none_of(connections_.begin(), connections_.end(), [](const auto& connection) {
        return connection != nullptr && connection->wants_to_write();
      });
    };
    // Rank 0 also waits for the others' ends to close: closing its own end would discard messages
    // that they have not read yet.
    const auto all_gone = [&] {
      return std::none_of(connections_.begin(), connections_.end(), [](const auto& connection) {
        return connection != nullptr && connection->open();
      });
    };
    const auto over = [&] { return all_sent() && (rank_ > 0 || all_gone()); };
    if (rank_ == 0) {
      changed_.wait_for(lock, longest_timeout_,
                        [&] { return !liveness_.failure().ok() || over(); });
    }
    changed_.wait_for(lock, kPatience, over);
    stopping_ = true;
    Wake();
  }
  thread_.join();
}

// --- Calls. ---

void NcclControl::Started(const ProcessGroup& group, const CollectiveCall& call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  longest_timeout_ = std::max(longest_timeout_, group.timeout);
  liveness_.Started(group, call);
}

int64_t NcclControl::Join(const ProcessGroup& group, const CollectiveCall& call) {
  ControlMessage join{.type = Type::kJoin, .group = group.id, .from = group.rank, .to = 0};
  join.call = call;
  join.axis = group.axis;
  const int64_t num_bytes = call.device == Device::kCpu ? InputBytes(call, group.rank) : 0;
  if (num_bytes > 0 && num_bytes <= kMaxPayloadBytes) {
    const auto* const data = static_cast<const std::byte*>(call.input);
    join.payload.assign(data, data + num_bytes);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  join.tag = num_tickets_++;
  open_tickets_.insert(join.tag);
  const int64_t ticket = join.tag;
  if (num_bytes > kMaxPayloadBytes) {
    liveness_.Fail(absl::InvalidArgumentError(absl::StrCat(
        "rank ", group.rank, " of axis ", group.axis, " called ", call.ToString(), " with ",
        num_bytes, " bytes on the CPU; with NCCL these go over TCP, and are at most ",
        kMaxPayloadBytes)));
  }
  if (liveness_.failure().ok()) Post(std::move(join));
  return ticket;
}

absl::StatusOr<std::vector<std::byte>> NcclControl::Await(int64_t ticket, const ProcessGroup& group,
                                                          const CollectiveCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  const Waiting waiting(&liveness_, group, &call, "");
  changed_.wait(lock, [&] { return results_.count(ticket) > 0 || !liveness_.failure().ok(); });
  const auto result = results_.find(ticket);
  if (result == results_.end()) return liveness_.failure();
  std::vector<std::byte> bytes = std::move(result->second);
  results_.erase(result);
  return bytes;
}

absl::Status NcclControl::WaitUntil(const ProcessGroup& group, const std::string& what,
                                    const std::function<absl::StatusOr<bool>()>& done) {
  std::unique_lock<std::mutex> lock(mutex_);
  const Waiting waiting(&liveness_, group, nullptr, what);
  for (std::chrono::microseconds pause(10);; pause = std::min(2 * pause, kLongestPause)) {
    if (!liveness_.failure().ok()) return liveness_.failure();
    lock.unlock();
    const absl::StatusOr<bool> is_done = done();
    if (is_done.ok() && !*is_done) std::this_thread::sleep_for(pause);
    lock.lock();  // also for the end of `waiting`
    if (!is_done.ok()) return FailureOr(is_done.status(), lock);
    if (*is_done) return liveness_.failure();  // a collective that an abort has ended is not done
  }
}

// --- Failures. ---

void NcclControl::Fail(const absl::Status& cause) {
  const std::lock_guard<std::mutex> lock(mutex_);
  liveness_.Fail(cause);
}

absl::Status NcclControl::failure() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return liveness_.failure();
}

absl::Status NcclControl::FailureOr(const absl::Status& error) {
  std::unique_lock<std::mutex> lock(mutex_);
  return FailureOr(error, lock);
}

absl::Status NcclControl::FailureOr(const absl::Status& error, std::unique_lock<std::mutex>& lock) {
  changed_.wait_for(lock, kNewsTime, [&] { return !liveness_.failure().ok(); });
  return liveness_.failure().ok() ? error : liveness_.failure();
}

// --- Messages. ---

void NcclControl::SendTo(int process, const ControlMessage& message) {
  const auto& connection = connections_[process];
  if (connection == nullptr) return;
  connection->Send(message);
  if (connection->wants_to_write()) Wake();
}

void NcclControl::Post(ControlMessage message) {
  if (rank_ > 0) return SendTo(0, message);
  const absl::Status status = Route(0, std::move(message));
  CHECK(status.ok()) << "[nccl] of rank 0 itself: " << status;
}

// Rank 0 passes on what goes to others.
absl::Status NcclControl::Route(int from, ControlMessage message) {
  switch (message.type) {
    case Type::kJoin: {
      STRAKE_ASSIGN_OR_RETURN(std::vector<ControlMessage> results,
                              hub_->Join(from, std::move(message)));
      return Deliver(std::move(results));
    }
    case Type::kLeave:
      liveness_.Left(from);
      return Deliver(hub_->Leave(from));
    case Type::kFail:
    case Type::kAsk:
    case Type::kAnswer:
      return RouteNews(from, message);
    case Type::kResult:
      break;
  }
  return absl::InvalidArgumentError("it sent a result, which only rank 0 may");
}

absl::Status NcclControl::RouteNews(int from, const ControlMessage& message) {
  const int to = message.to;
  if (message.from != from || to < ControlMessage::kEveryProcess || to >= size_ || to == from) {
    return absl::InvalidArgumentError(
        absl::StrCat("it sent a message from ", message.from, " to ", to));
  }
  for (int process = 1; process < size_; ++process) {
    if (process != from && (to == process || to == ControlMessage::kEveryProcess)) {
      SendTo(process, message);
    }
  }
  return from > 0 && to <= 0 ? Receive(message) : absl::OkStatus();
}

absl::Status NcclControl::Deliver(std::vector<ControlMessage> results) {
  for (ControlMessage& result : results) {
    if (result.type == Type::kFail) {
      liveness_.Fail(result.failure);
    } else if (result.to > 0) {
      SendTo(result.to, result);
    } else {
      STRAKE_RETURN_IF_ERROR(Receive(std::move(result)));
    }
  }
  return absl::OkStatus();
}

absl::Status NcclControl::Receive(ControlMessage message) {
  switch (message.type) {
    case Type::kResult:
      if (open_tickets_.erase(message.tag) == 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("it sent a result of call ", message.tag, ", which has none to come"));
      }
      results_[message.tag] = std::move(message.payload);
      changed_.notify_all();
      return absl::OkStatus();
    case Type::kFail:
    case Type::kAsk:
    case Type::kAnswer:
      return liveness_.Receive(message, Clock::now());
    case Type::kJoin:
    case Type::kLeave:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "it sent a message of type ", static_cast<int>(message.type), ", which is for rank 0"));
}

// --- The thread. ---

void NcclControl::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  do {
    WaitForMessages(lock);
    for (int process = 0; process < size_; ++process) {
      const auto& connection = connections_[process];
      if (connection == nullptr || !connection->open()) continue;
      connection->Write();
      Read(process);
      if (!connection->open() && liveness_.failure().ok()) liveness_.ConnectionEnded(process);
    }
    liveness_.Check(Clock::now());
    changed_.notify_all();  // for processes that leave
    if (!liveness_.failure().ok() && !told_of_failure_) {
      told_of_failure_ = true;
      lock.unlock();
      on_failure_();
      lock.lock();
    }
  } while (!stopping_);
}

void NcclControl::Read(int process) {
  std::vector<ControlMessage> messages;
  const absl::Status read = connections_[process]->Read(&messages);
  absl::Status status;
  for (ControlMessage& message : messages) {
    status = rank_ == 0 ? Route(process, std::move(message)) : Receive(std::move(message));
    if (!status.ok()) break;
  }
  status.Update(read);
  if (status.ok()) return;
  // The others, and this one, learn of it before its connection is closed.
  liveness_.Fail(absl::Status(
      status.code(), absl::StrCat("rank ", process, " of all ", size_, ": ", status.message())));
  connections_[process]->Close();
}

void NcclControl::WaitForMessages(std::unique_lock<std::mutex>& lock) {
  std::vector<pollfd> polled = {{.fd = wake_read_.get(), .events = POLLIN, .revents = 0}};
  for (const auto& connection : connections_) {
    if (connection == nullptr || !connection->open()) continue;
    const short events = connection->wants_to_write() ? POLLIN | POLLOUT : POLLIN;
    polled.push_back({.fd = connection->fd(), .events = events, .revents = 0});
  }
  lock.unlock();
  (void)poll(polled.data(), polled.size(), kTick.count());
  char bytes[64];
  while (read(wake_read_.get(), bytes, sizeof(bytes)) > 0) {
  }
  lock.lock();
}

void NcclControl::Wake() {
  const char byte = 0;
  (void)!write(wake_write_.get(), &byte, 1);
}

}  // namespace strake
