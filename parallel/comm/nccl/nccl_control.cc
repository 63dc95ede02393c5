#include "parallel/comm/nccl/nccl_control.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace strake {
namespace {

using std::chrono::milliseconds;
using Type = NcclMessage::Type;

// How often the thread checks the timeouts.
constexpr milliseconds kTick(100);
// How long another process may take to report its progress.
constexpr milliseconds kAnswerTime(2000);
// How long the news of a process's death may take.
constexpr milliseconds kNewsTime(500);
// How long processes give each other to learn of a failure, and to send their pending messages.
constexpr milliseconds kPatience(2000);
// The longest pause between polls.
constexpr std::chrono::microseconds kLongestPause(200);

std::string Ranks(const std::vector<int>& ranks) {
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

}  // namespace

// Registers a waiter during its lifetime.
class NcclControl::Waiting {
 public:
  Waiting(NcclControl* control, const NcclGroup& group, const CollectiveCall* call,
          std::string what)
      : control_(control), waiter_{group, call, std::move(what), Clock::now() + group.timeout} {
    control->waiters_.insert(&waiter_);
  }
  ~Waiting() { control_->waiters_.erase(&waiter_); }

 private:
  NcclControl* const control_;
  Waiter waiter_;
};

NcclControl::NcclControl(int rank, int size, NcclConnections connections,
                         std::function<void()> on_failure)
    : rank_(rank), size_(size), on_failure_(std::move(on_failure)), left_(size) {
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
    if (failure_.ok()) Post({.type = Type::kLeave, .content = {.from = rank_}});
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
      changed_.wait_for(lock, longest_timeout_, [&] { return !failure_.ok() || over(); });
    }
    changed_.wait_for(lock, kPatience, over);
    stopping_ = true;
    Wake();
  }
  thread_.join();
}

// --- Calls. ---

NcclControl::Counter NcclControl::CounterOf(const NcclGroup& group, const CollectiveCall& call) {
  if (call.kind == CollectiveKind::kSend) return {group.id, group.rank, call.peer};
  if (call.kind == CollectiveKind::kRecv) return {group.id, call.peer, group.rank};
  return {group.id, -1, -1};
}

void NcclControl::Started(const NcclGroup& group, const CollectiveCall& call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  longest_timeout_ = std::max(longest_timeout_, group.timeout);
  const int64_t num_started = started_[CounterOf(group, call)] = call.sequence + 1;
  last_calls_[group.id] = {group, call, num_started};
}

int64_t NcclControl::Join(const NcclGroup& group, const CollectiveCall& call) {
  NcclMessage join{.type = Type::kJoin, .axis = group.axis};
  join.content.group = group.id;
  join.content.from = group.rank;
  join.content.call = call;
  if (call.device == Device::kCpu) {
    const auto* const data = static_cast<const std::byte*>(call.input);
    join.content.payload.assign(data, data + InputBytes(call, group.rank));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t ticket = num_tickets_++;
  join.content.tag = static_cast<int>(ticket);
  if (failure_.ok()) Post(std::move(join));
  return ticket;
}

absl::StatusOr<std::vector<std::byte>> NcclControl::Await(int64_t ticket, const NcclGroup& group,
                                                          const CollectiveCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  const Waiting waiting(this, group, &call, call.ToString());
  changed_.wait(lock, [&] { return results_.count(ticket) > 0 || !failure_.ok(); });
  const auto result = results_.find(ticket);
  if (result == results_.end()) return failure_;
  std::vector<std::byte> bytes = std::move(result->second);
  results_.erase(result);
  return bytes;
}

absl::Status NcclControl::WaitUntil(const NcclGroup& group, const std::string& what,
                                    const std::function<absl::StatusOr<bool>()>& done) {
  std::unique_lock<std::mutex> lock(mutex_);
  const Waiting waiting(this, group, nullptr, what);
  for (std::chrono::microseconds pause(10);; pause = std::min(2 * pause, kLongestPause)) {
    if (!failure_.ok()) return failure_;
    lock.unlock();
    const absl::StatusOr<bool> is_done = done();
    if (is_done.ok() && !*is_done) std::this_thread::sleep_for(pause);
    if (!is_done.ok()) return FailureOr(is_done.status());
    lock.lock();
    if (*is_done) return failure_;  // a collective that an abort has ended is not done
  }
}

// --- Failures. ---

void NcclControl::Fail(const absl::Status& cause) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!failure_.ok()) return;
  SetFailure(cause);
  Post({.type = Type::kFail, .content = {.from = rank_, .failure = cause}});
}

absl::Status NcclControl::failure() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

absl::Status NcclControl::FailureOr(const absl::Status& error) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, kNewsTime, [&] { return !failure_.ok(); });
  return failure_.ok() ? error : failure_;
}

void NcclControl::SetFailure(const absl::Status& cause) {
  if (!failure_.ok()) return;
  failure_ = cause;
  changed_.notify_all();
  Wake();
}

void NcclControl::MissTheDead() {
  for (int process = 0; process < size_; ++process) {
    const auto& connection = connections_[process];
    if (connection == nullptr || connection->open() || left_[process] || !failure_.ok()) continue;
    const absl::Status cause = absl::UnavailableError(
        absl::StrCat("rank ", process, " of all ", size_, " ended without a word: its connection ",
                     "to rank ", rank_, " is closed; its own output may say why"));
    SetFailure(cause);
    Post({.type = Type::kFail, .content = {.from = rank_, .failure = cause}});
  }
}

void NcclControl::WatchClocks() {
  const Clock::time_point now = Clock::now();
  for (Waiter* const waiter : waiters_) {
    if (!failure_.ok()) return;
    if (!waiter->asked_until) {
      if (now < waiter->deadline) continue;
      waiter->asked_until = now + kAnswerTime;
      Post({.type = Type::kAsk, .content = {.from = rank_}});
    }
    if (static_cast<int>(waiter->answers.size()) < size_ - 1 && now < *waiter->asked_until) {
      continue;
    }
    const absl::Status cause = TimedOut(*waiter);
    SetFailure(cause);
    Post({.type = Type::kFail, .content = {.from = rank_, .failure = cause}});
  }
}

absl::Status NcclControl::TimedOut(const Waiter& waiter) const {
  return absl::DeadlineExceededError(Blame(waiter));
}

std::string NcclControl::Blame(const Waiter& waiter) const {
  const auto text = [&](const std::string& who, const char* axis, const std::string& of,
                        const char* what, const std::string& in) {
    return absl::StrCat(who, axis, of, what, " within ", waiter.group.timeout.count(), " ms: rank ",
                        waiter.group.rank, " waits in ", in);
  };
  // Without rank 0 no answer arrives.
  if (rank_ > 0 && waiter.answers.empty()) {
    return text("rank 0", " of all ", absl::StrCat(size_), " did not answer", waiter.what);
  }
  if (waiter.call != nullptr) {
    const auto missing = MissingIn(waiter, waiter.group, CounterOf(waiter.group, *waiter.call),
                                   waiter.call->sequence + 1);
    if (!missing.empty()) {
      return text(Ranks(missing), " of axis ", waiter.group.axis, " did not join", waiter.what);
    }
  }
  for (const auto& [id, last] : last_calls_) {
    const auto missing =
        MissingIn(waiter, last.group, CounterOf(last.group, last.call), last.num_started);
    if (!missing.empty()) {
      return text(Ranks(missing), " of axis ", last.group.axis, " did not join",
                  absl::StrCat(last.call.ToString()));
    }
  }
  const std::vector<int> absent = ProcessesThatDoNotWait(waiter);
  return text(absent.empty() ? "no rank" : Ranks(absent), " of all ", absl::StrCat(size_),
              absent.empty() ? " is missing, and GPUs did not come to an end" : " did not come",
              waiter.what);
}

std::vector<int> NcclControl::MissingIn(const Waiter& waiter, const NcclGroup& group,
                                        const Counter& counter, int64_t num_started) const {
  const auto [id, sender, receiver] = counter;
  std::vector<int> missing, missing_and_idle;
  for (int rank = 0; rank < static_cast<int>(group.processes.size()); ++rank) {
    if (rank == group.rank || (sender >= 0 && rank != sender && rank != receiver)) continue;
    const auto answer = waiter.answers.find(group.processes[rank]);
    const bool answered = answer != waiter.answers.end();
    if (answered) {
      const auto started = answer->second.started.find(counter);
      const bool any = started != answer->second.started.end();
      if ((any ? started->second : 0) >= num_started) continue;
    }
    missing.push_back(rank);
    if (!answered || !answer->second.waits) missing_and_idle.push_back(rank);
  }
  // A process that waits itself is late because of another one.
  return missing_and_idle.empty() ? missing : missing_and_idle;
}

std::vector<int> NcclControl::ProcessesThatDoNotWait(const Waiter& waiter) const {
  std::vector<int> processes;
  for (int process = 0; process < size_; ++process) {
    const auto answer = waiter.answers.find(process);
    const bool waits = answer != waiter.answers.end() && answer->second.waits;
    if (process != rank_ && !waits) processes.push_back(process);
  }
  return processes;
}

// --- Messages. ---

void NcclControl::Send(int process, NcclMessage message) {
  const auto& connection = connections_[process];
  if (connection == nullptr) return;
  connection->Send(message);
  if (connection->wants_to_write()) Wake();
}

void NcclControl::Post(NcclMessage message) {
  if (rank_ == 0) return RouteFromHub(0, std::move(message));
  Send(0, std::move(message));
}

void NcclControl::RouteFromHub(int from, NcclMessage message) {
  switch (message.type) {
    case Type::kJoin:
      return Deliver(hub_->Join(std::move(message)));
    case Type::kAnswer:
      return Deliver({{message.content.tag, message}});
    case Type::kLeave:
      left_[from] = true;
      return Deliver(hub_->Leave(from));
    default:
      for (int process = 1; process < size_; ++process) {
        if (process != from) Send(process, message);
      }
      if (from > 0) Receive(std::move(message));
  }
}

void NcclControl::Deliver(const std::vector<NcclHub::Delivery>& deliveries) {
  for (const NcclHub::Delivery& delivery : deliveries) {
    if (delivery.to > 0) {
      Send(delivery.to, delivery.message);
      continue;
    }
    Receive(delivery.message);
    if (delivery.to < 0) RouteFromHub(0, delivery.message);
  }
}

void NcclControl::Receive(NcclMessage message) {
  switch (message.type) {
    case Type::kResult:
      results_[message.content.tag] = std::move(message.content.payload);
      changed_.notify_all();
      return;
    case Type::kFail:
      return SetFailure(message.content.failure);
    case Type::kAsk:
      return SendAnswer(message.content.from);
    case Type::kAnswer:
      return ReceiveAnswer(message);
    case Type::kJoin:
    case Type::kLeave:
      LOG(FATAL) << "[nccl] a message for rank 0 came to rank " << rank_;
  }
}

void NcclControl::SendAnswer(int asker) {
  NcclMessage answer{.type = Type::kAnswer};
  answer.content.from = rank_;
  answer.content.tag = asker;
  answer.content.offered_id = !waiters_.empty();
  std::vector<NcclProgress> progress;
  for (const auto& [counter, num_started] : started_) {
    const auto [group, sender, receiver] = counter;
    progress.push_back({group, sender, receiver, num_started});
  }
  const auto* const bytes = reinterpret_cast<const std::byte*>(progress.data());
  answer.content.payload.assign(bytes, bytes + progress.size() * sizeof(NcclProgress));
  Post(std::move(answer));
}

void NcclControl::ReceiveAnswer(const NcclMessage& message) {
  Answer answer{.waits = message.content.offered_id != 0, .started = {}};
  std::vector<NcclProgress> progress(message.content.payload.size() / sizeof(NcclProgress));
  if (!progress.empty()) {
    std::memcpy(progress.data(), message.content.payload.data(),
                progress.size() * sizeof(NcclProgress));
  }
  for (const NcclProgress& p : progress) {
    answer.started[{p.group, p.sender, p.receiver}] = p.num_started;
  }
  for (Waiter* const waiter : waiters_) {
    if (waiter->asked_until) waiter->answers[message.content.from] = answer;
  }
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
      for (NcclMessage& message : connection->Read()) {
        rank_ == 0 ? RouteFromHub(process, std::move(message)) : Receive(std::move(message));
      }
    }
    MissTheDead();
    WatchClocks();
    changed_.notify_all();  // for processes that leave
    if (!failure_.ok() && !told_of_failure_) {
      told_of_failure_ = true;
      lock.unlock();
      on_failure_();
      lock.lock();
    }
  } while (!stopping_);
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
