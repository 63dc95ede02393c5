#include "parallel/comm/mpi/mpi_engine.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace strake {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// The ids of worlds; those of splits begin with the rank of the process that offered them.
constexpr uint64_t kWorldBit = uint64_t{1} << 63;
constexpr int kRankShift = 32;

// How long the processes wait for each other's end, once one has failed.
constexpr milliseconds kPatienceAfterFailure(2000);
// How long operations continue after a failure. The rank that failed may have completed operations
// that others are still in: the data they lack was sent before the failure, and is about to arrive.
constexpr milliseconds kLastCall(20);
// How long data in flight may then take to arrive before receives are cancelled.
constexpr milliseconds kDrainTime(200);

// How long another process may take to answer a question, and how often to wait that long: once for
// each axis of a mesh.
constexpr milliseconds kAnswerTime(500);
constexpr int kMaxQuestions = 4;

// How often the engine's thread polls while ranks compute: often enough for a collective of a
// layer's activations to overlap with a matrix product, seldom enough to cost it at most 2 %.
constexpr microseconds kBackgroundInterval(200);
// How long after the last operation it stops polling.
constexpr int kIdleIntervals = 50;

// Pauses of a waiting thread: none at first, then longer and longer.
class Backoff {
 public:
  explicit Backoff(bool crowded) : spin_time_(crowded ? 20 : 500) {}
  void Reset() {
    since_ = Clock::now();
    sleep_ = microseconds(20);
  }
  void Pause() {
    if (Clock::now() - since_ < spin_time_) return std::this_thread::yield();
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(2 * sleep_, microseconds(500));
  }

 private:
  const microseconds spin_time_;
  Clock::time_point since_ = Clock::now();
  microseconds sleep_{20};
};

MpiGroup::Key KeyOf(int rank, const CollectiveCall& call) {
  if (call.kind == CollectiveKind::kSend) return {rank, call.peer, call.sequence};
  if (call.kind == CollectiveKind::kRecv) return {call.peer, rank, call.sequence};
  return {-1, -1, call.sequence};
}

std::string Ranks(const std::vector<int>& ranks) {
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

absl::Status TimedOut(const MpiGroup& group, const std::vector<int>& ranks, const char* what,
                      const CollectiveCall& call) {
  return absl::DeadlineExceededError(absl::StrCat(
      Ranks(ranks), " of axis ", group.options.axis, absl::string_view(what), " within ",
      group.options.timeout.count(), " ms: rank ", group.rank, " waits in ", call.ToString()));
}

}  // namespace

absl::StatusOr<std::shared_ptr<MpiEngine>> MpiEngine::Create() {
  auto transport = MpiTransport::Create();
  if (!transport.ok()) return transport.status();
  return std::make_shared<MpiEngine>(std::move(*transport));
}

MpiEngine::MpiEngine(std::unique_ptr<MpiTransport> transport)
    : transport_(std::move(transport)), background_([this] { BackgroundLoop(); }) {}

MpiEngine::~MpiEngine() {
  CHECK(!background_.joinable()) << "[mpi] an engine is destroyed before its end";
}

// --- Groups. ---

std::shared_ptr<MpiGroup> MpiEngine::OpenWorld(const CommunicatorOptions& options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto world = std::make_shared<MpiWorld>();
  world->id = kWorldBit | worlds_.size();
  worlds_.push_back(world);
  longest_timeout_ = std::max(longest_timeout_, options.timeout);
  std::vector<int> processes(size());
  std::iota(processes.begin(), processes.end(), 0);
  auto group =
      std::make_shared<MpiGroup>(MpiGroup{world->id, world, options, rank(), std::move(processes)});
  Open(group);
  FailAllIfBroken();
  return group;
}

std::shared_ptr<MpiGroup> MpiEngine::OpenSplit(const MpiGroup& parent, const MpiOperation& split,
                                               const CommunicatorOptions& options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::vector<int> members = split.SplitMembers();
  std::vector<int> processes;
  for (const int member : members) processes.push_back(parent.processes[member]);
  const auto self = std::find(members.begin(), members.end(), parent.rank);
  auto group = std::make_shared<MpiGroup>(MpiGroup{split.SplitId(), parent.world, options,
                                                   static_cast<int>(self - members.begin()),
                                                   std::move(processes)});
  Open(group);
  return group;
}

void MpiEngine::Open(const std::shared_ptr<MpiGroup>& group) {
  group->left.assign(group->processes.size(), false);
  groups_[group->id] = group;
  if (const auto early = early_.find(group->id); early != early_.end()) {
    const std::vector<MpiMessage> messages = std::move(early->second);
    early_.erase(early);
    for (const MpiMessage& message : messages) Receive(message);
  }
}

void MpiEngine::Close(const MpiGroup& group) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto entry = groups_.find(group.id);
  entry->second->operations.clear();
  groups_.erase(entry);
  closed_groups_.insert(group.id);
  if (!group.world->failure.ok()) return;
  for (const int process : group.processes) {
    if (process == rank()) continue;
    transport_->Send(process,
                     {.type = MpiMessage::Type::kLeave, .group = group.id, .from = group.rank});
  }
  WakeBackground();
}

// --- Operations. ---

std::shared_ptr<MpiOperation> MpiEngine::Find(MpiGroup& group, const MpiGroup::Key& key) {
  std::shared_ptr<MpiOperation>& operation = group.operations[key];
  if (operation != nullptr) return operation;
  std::vector<int> peers;
  for (int rank = 0; rank < static_cast<int>(group.processes.size()); ++rank) {
    const auto [sender, receiver, sequence] = key;
    if (rank != group.rank && (sender < 0 || rank == sender || rank == receiver)) {
      peers.push_back(rank);
    }
  }
  operation =
      std::make_shared<MpiOperation>(group.rank, static_cast<int>(group.processes.size()), peers,
                                     [this, processes = group.processes](int rank, int tag) {
                                       return transport_->Channel(processes[rank], tag);
                                     });
  return operation;
}

std::shared_ptr<MpiOperation> MpiEngine::Start(MpiGroup& group, CollectiveCall call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Progress();  // the group may have failed
  const MpiGroup::Key key = KeyOf(group.rank, call);
  const std::shared_ptr<MpiOperation> operation = Find(group, key);
  if (!group.world->failure.ok()) return operation;
  operation->Start(std::move(call), transport_->NewTags(),
                   static_cast<uint64_t>(rank()) << kRankShift | num_offered_ids_++);
  active_.push_back({groups_.at(group.id), operation, key});
  for (int peer = 0; peer < static_cast<int>(group.processes.size()); ++peer) {
    if (!operation->takes_part(peer)) continue;
    MpiMessage message = operation->JoinMessage(peer);
    message.group = group.id;
    transport_->Send(group.processes[peer], message);
  }
  if (const absl::Status status = operation->MeetJoined(); !status.ok()) Disagree(group, status);
  FailIfSomebodyLeft(group, *operation);
  Progress();
  WakeBackground();
  return operation;
}

// The rank that waits longest need not know who is to blame: the rank that it waits for may itself
// wait for another one. So it asks. Ranks that wait ask in turn, and the one whose missing rank
// does not answer fails first.
absl::Status MpiEngine::Wait(MpiGroup& group, MpiOperation& operation, const CollectiveCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  MpiWorld& world = *group.world;
  auto deadline = Clock::now() + group.options.timeout;
  Backoff backoff(transport_->crowded());
  int num_asked = 0;
  ++num_waiting_;
  ++world.num_waiting;
  while (!operation.done() && !IsOver(world)) {
    if (Progress()) {
      backoff.Reset();
    } else if (num_asked == 0 ? world.asked || Clock::now() > deadline : Clock::now() > deadline) {
      TimeIsUp(group, operation, call, num_asked++);
      deadline = Clock::now() + kAnswerTime;
    } else {
      lock.unlock();
      backoff.Pause();
      lock.lock();
    }
  }
  --num_waiting_;
  if (--world.num_waiting == 0) {
    world.asked = false;
    world.waiting.clear();
  }
  if (operation.done()) return absl::OkStatus();
  LetGoOfBuffers(lock, operation);
  return Failure(group, call);
}

void MpiEngine::TimeIsUp(const MpiGroup& group, const MpiOperation& operation,
                         const CollectiveCall& call, int num_asked) {
  const std::vector<int> missing = operation.missing_ranks();
  if (missing.empty()) {
    Fail(*group.world, TimedOut(group, operation.unfinished_ranks(), " did not go on", call),
         Source::kHere);
    return;
  }
  std::vector<int> to_blame;
  for (const int rank : missing) {
    if (group.world->waiting.count(group.processes[rank]) == 0) to_blame.push_back(rank);
  }
  if (num_asked == 0) {
    for (const int rank : missing) {
      transport_->Send(
          group.processes[rank],
          {.type = MpiMessage::Type::kAsk, .group = group.world->id, .from = this->rank()});
    }
  } else if (!to_blame.empty() || num_asked == kMaxQuestions) {
    Fail(*group.world,
         TimedOut(group, to_blame.empty() ? missing : to_blame, " did not join", call),
         Source::kHere);
  }
}

void MpiEngine::Drop(MpiGroup& group, MpiOperation& operation, const CollectiveCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (operation.done()) return;
  Fail(*group.world,
       absl::AbortedError(absl::StrCat("rank ", group.rank, " of axis ", group.options.axis,
                                       " dropped ", call.ToString(), " without waiting for it")),
       Source::kHere);
  LetGoOfBuffers(lock, operation);
}

bool MpiEngine::Progress() {
  if (!transport_->broken().ok()) {
    FailAllIfBroken();
    return false;
  }
  bool moved = transport_->Progress([this](MpiMessage message) { Receive(std::move(message)); });
  moved = ProgressOperations() || moved;
  FailAllIfBroken();
  return moved;
}

bool MpiEngine::ProgressOperations() {
  bool moved = false;
  for (const Active& active : active_) {
    if (IsOver(*active.group->world)) continue;
    transport_->Check(active.operation->Progress(moved), "moving data");
    if (active.operation->done()) {
      moved = true;
      active.group->operations.erase(active.key);
    }
  }
  active_.erase(std::remove_if(active_.begin(), active_.end(),
                               [](const Active& active) {
                                 return active.operation->done() || IsOver(*active.group->world);
                               }),
                active_.end());
  return moved;
}

void MpiEngine::WakeBackground() {
  if (asleep_) wake_.notify_one();
}

void MpiEngine::BackgroundLoop() {
  std::unique_lock<std::mutex> lock(mutex_);
  int idle_intervals = 0;
  while (!stopping_) {
    if (!active_.empty() || !transport_->all_sent()) {
      idle_intervals = 0;
      while (num_waiting_ == 0 && Progress()) {
      }
    }
    asleep_ = ++idle_intervals > kIdleIntervals;
    asleep_ ? wake_.wait(lock) : (void)wake_.wait_for(lock, kBackgroundInterval);
  }
}

// --- Messages. ---

void MpiEngine::ReceiveQuestion(MpiWorld& world, const MpiMessage& message) {
  if (world.num_waiting == 0) return;
  if (message.type == MpiMessage::Type::kWait) {
    world.waiting.insert(message.from);
    return;
  }
  world.asked = true;
  transport_->Send(message.from,
                   {.type = MpiMessage::Type::kWait, .group = world.id, .from = rank()});
}

void MpiEngine::Receive(MpiMessage message) {
  if (message.type == MpiMessage::Type::kFail) {
    const uint64_t index = message.group & ~kWorldBit;
    if (index < worlds_.size()) {
      MpiWorld& world = *worlds_[index];
      if (world.failure.ok() && message.aborted) aborted_by_another_process_ = true;
      return Fail(world, message.failure, Source::kElsewhere);
    }
  } else if (message.type == MpiMessage::Type::kAsk || message.type == MpiMessage::Type::kWait) {
    const uint64_t index = message.group & ~kWorldBit;
    if (index < worlds_.size()) ReceiveQuestion(*worlds_[index], message);
    return;
  } else if (const auto entry = groups_.find(message.group); entry != groups_.end()) {
    MpiGroup& group = *entry->second;
    if (IsOver(*group.world)) return;
    return message.type == MpiMessage::Type::kJoin ? ReceiveJoin(group, std::move(message))
                                                   : ReceiveLeave(group, message.from);
  } else if (closed_groups_.count(message.group) > 0) {
    return;
  }
  early_[message.group].push_back(std::move(message));
}

void MpiEngine::ReceiveJoin(MpiGroup& group, MpiMessage message) {
  // For a message, both sides name the pair in the same way.
  const std::shared_ptr<MpiOperation> operation = Find(group, KeyOf(message.from, message.call));
  if (!operation->takes_part(message.from)) return;
  const absl::Status status = operation->Join(std::move(message));
  if (!status.ok()) Disagree(group, status);
}

void MpiEngine::Disagree(MpiGroup& group, const absl::Status& cause) {
  Fail(*group.world,
       absl::Status(cause.code(),
                    absl::StrCat("on axis ", group.options.axis, ", ", cause.message())),
       Source::kHere);
}

void MpiEngine::ReceiveLeave(MpiGroup& group, int rank) {
  group.left[rank] = true;
  for (const auto& [key, operation] : group.operations) FailIfSomebodyLeft(group, *operation);
}

void MpiEngine::FailIfSomebodyLeft(MpiGroup& group, const MpiOperation& operation) {
  if (!operation.started()) return;
  for (const int rank : operation.missing_ranks()) {
    if (!group.left[rank]) continue;
    Fail(*group.world,
         absl::AbortedError(absl::StrCat("rank ", rank, " of axis ", group.options.axis,
                                         " left the group before ", operation.call().ToString())),
         Source::kHere);
  }
}

// --- Failures. ---

void MpiEngine::Abort(MpiGroup& group, const absl::Status& cause) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Fail(*group.world,
       absl::Status(cause.code(), absl::StrCat("rank ", group.rank, " of axis ", group.options.axis,
                                               " aborted: ", cause.message())),
       Source::kAbort);
  WakeBackground();
}

bool MpiEngine::AbortedByAnotherProcess() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return aborted_by_another_process_;
}

void MpiEngine::Fail(MpiWorld& world, const absl::Status& cause, Source source) {
  if (!world.failure.ok()) return;
  world.failure = cause;
  world.over_at = Clock::now() + kLastCall;
  some_world_failed_ = true;
  if (source == Source::kElsewhere) return;
  for (int process = 0; process < size(); ++process) {
    if (process == rank()) continue;
    transport_->Send(process, {.type = MpiMessage::Type::kFail,
                               .group = world.id,
                               .failure = cause,
                               .aborted = source == Source::kAbort});
  }
}

bool MpiEngine::IsOver(const MpiWorld& world) {
  return !world.failure.ok() && Clock::now() >= world.over_at;
}

void MpiEngine::FailAllIfBroken() {
  if (transport_->broken().ok()) return;
  for (const auto& world : worlds_) Fail(*world, transport_->broken(), Source::kElsewhere);
}

absl::Status MpiEngine::Failure(const MpiGroup& group, const CollectiveCall& call) const {
  const absl::Status& cause = group.world->failure;
  return absl::Status(cause.code(),
                      absl::StrCat("[", CollectiveName(call.kind), " #", call.sequence, ", axis ",
                                   group.options.axis, ", rank ", group.rank, " of ",
                                   group.processes.size(), "] ", cause.message()));
}

// MPI writes into a buffer only during an MPI call. So after a failure this process helps data in
// flight to arrive, cancels receives, and stops using MPI if that does not suffice.
void MpiEngine::LetGoOfBuffers(std::unique_lock<std::mutex>& lock, MpiOperation& operation) {
  operation.GiveUp();
  const auto begin = Clock::now();
  bool cancelled = false;
  while (!operation.idle() && transport_->broken().ok()) {
    bool moved = false;
    transport_->Check(operation.Drain(moved), "moving data");
    moved = Progress() || moved;
    const auto elapsed = Clock::now() - begin;
    if (elapsed > kDrainTime && !std::exchange(cancelled, true)) operation.CancelReceives();
    if (elapsed > 2 * kDrainTime) {
      transport_->Break(
          absl::AbortedError(absl::StrCat("process ", rank(),
                                          " stopped using MPI, which held on to a buffer of a "
                                          "failed group")));
    }
    lock.unlock();
    std::this_thread::yield();
    lock.lock();
  }
  FailAllIfBroken();
}

// --- The end. ---

bool MpiEngine::End() { return End(std::max(longest_timeout_, kPatienceAfterFailure)); }

bool MpiEngine::EndAfterFailure() {
  some_world_failed_ = true;
  return End(kPatienceAfterFailure);
}

bool MpiEngine::End(milliseconds patience) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  background_.join();
  const auto begin = Clock::now();
  Backoff backoff(transport_->crowded());
  const std::lock_guard<std::mutex> lock(mutex_);
  while (!(transport_->all_sent() && transport_->AllEnd())) {
    if (some_world_failed_) patience = std::min(patience, kPatienceAfterFailure);
    if (Clock::now() - begin > patience) return false;
    Progress() ? backoff.Reset() : backoff.Pause();
  }
  transport_->Finalize();
  return true;
}

}  // namespace strake
