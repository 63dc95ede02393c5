#include "parallel/comm/mpi/mpi_engine.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "parallel/comm/call_matching.h"

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
  const auto [sender, receiver] = SenderAndReceiver(rank, call);
  return {sender, receiver, call.sequence};
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
  const uint64_t id = kWorldBit | worlds_.size();
  const size_t index = worlds_.size();
  auto world = std::make_shared<MpiWorld>(
      Liveness::World{.id = id, .process = rank(), .size = size()},
      [this](const ControlMessage& message) { Send(message); },
      [this, index] {
        worlds_[index]->over_at = Clock::now() + kLastCall;
        some_world_failed_ = true;
      });
  worlds_.push_back(world);
  longest_timeout_ = std::max(longest_timeout_, options.timeout);
  std::vector<int> processes(size());
  std::iota(processes.begin(), processes.end(), 0);
  auto group = std::make_shared<MpiGroup>(
      MpiGroup{{id, options.axis, rank(), std::move(processes), options.timeout}, world, options});
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
  const int rank = static_cast<int>(self - members.begin());
  auto group = std::make_shared<MpiGroup>(
      MpiGroup{{split.SplitId(), options.axis, rank, std::move(processes), options.timeout},
               parent.world,
               options});
  Open(group);
  return group;
}

void MpiEngine::Open(const std::shared_ptr<MpiGroup>& group) {
  group->left.assign(group->processes.size(), false);
  groups_[group->id] = group;
  if (const auto early = early_.find(group->id); early != early_.end()) {
    const std::vector<ControlMessage> messages = std::move(early->second);
    early_.erase(early);
    for (const ControlMessage& message : messages) {
      const absl::Status status = Receive(message);
      if (status.ok()) continue;
      transport_->Break(absl::Status(
          status.code(), absl::StrCat("[mpi] about axis ", group->axis, ": ", status.message())));
    }
  }
}

void MpiEngine::Close(const MpiGroup& group) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto entry = groups_.find(group.id);
  entry->second->operations.clear();
  groups_.erase(entry);
  closed_groups_.insert(group.id);
  if (!group.world->liveness.failure().ok()) return;
  for (const int process : group.processes) {
    if (process == rank()) continue;
    transport_->Send(process,
                     {.type = ControlMessage::Type::kLeave, .group = group.id, .from = group.rank});
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
  if (!group.world->liveness.failure().ok()) return operation;
  operation->Start(std::move(call), transport_->NewTags(),
                   static_cast<uint64_t>(rank()) << kRankShift | num_offered_ids_++);
  active_.push_back({groups_.at(group.id), operation, key});
  for (int peer = 0; peer < static_cast<int>(group.processes.size()); ++peer) {
    if (!operation->takes_part(peer)) continue;
    ControlMessage message = operation->JoinMessage(peer);
    message.group = group.id;
    transport_->Send(group.processes[peer], message);
  }
  if (const absl::Status status = operation->MeetJoined(); !status.ok()) Disagree(group, status);
  FailIfSomebodyLeft(group, *operation);
  Progress();
  WakeBackground();
  return operation;
}

absl::Status MpiEngine::Wait(MpiGroup& group, MpiOperation& operation, const CollectiveCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (operation.done()) return absl::OkStatus();
  MpiWorld& world = *group.world;
  Liveness::Wait wait{
      .group = group, .call = &call, .lack = [&operation] {
        return Liveness::Lack{operation.missing_ranks(), operation.unfinished_ranks()};
      }};
  world.liveness.Begin(&wait, Clock::now());
  Backoff backoff(transport_->crowded());
  ++num_waiting_;
  while (!operation.done() && !IsOver(world)) {
    if (Progress()) {
      backoff.Reset();
      continue;
    }
    world.liveness.Check(Clock::now());
    lock.unlock();
    backoff.Pause();
    lock.lock();
  }
  --num_waiting_;
  world.liveness.End(&wait);
  if (operation.done()) return absl::OkStatus();
  LetGoOfBuffers(lock, operation);
  return Failure(group, call);
}

void MpiEngine::Drop(MpiGroup& group, MpiOperation& operation, const CollectiveCall& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (operation.done()) return;
  group.world->liveness.Fail(
      absl::AbortedError(absl::StrCat("rank ", group.rank, " of axis ", group.axis, " dropped ",
                                      call.ToString(), " without waiting for it")));
  LetGoOfBuffers(lock, operation);
}

bool MpiEngine::Progress() {
  if (!transport_->broken().ok()) {
    FailAllIfBroken();
    return false;
  }
  bool moved =
      transport_->Progress([this](ControlMessage message) { return Receive(std::move(message)); });
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

void MpiEngine::Send(const ControlMessage& message) {
  if (message.to != ControlMessage::kEveryProcess) return transport_->Send(message.to, message);
  for (int process = 0; process < size(); ++process) {
    if (process != rank()) transport_->Send(process, message);
  }
}

MpiWorld* MpiEngine::WorldOf(const ControlMessage& message) const {
  const uint64_t index = message.group & ~kWorldBit;
  return index < worlds_.size() ? worlds_[index].get() : nullptr;
}

absl::Status MpiEngine::Receive(ControlMessage message) {
  switch (message.type) {
    case ControlMessage::Type::kFail:
    case ControlMessage::Type::kAsk:
    case ControlMessage::Type::kAnswer:
      if (MpiWorld* const world = WorldOf(message)) {
        return world->liveness.Receive(message, Clock::now());
      }
      // A question is asked again.
      if (message.type != ControlMessage::Type::kFail) return absl::OkStatus();
      break;
    case ControlMessage::Type::kJoin:
    case ControlMessage::Type::kLeave:
      if (const auto entry = groups_.find(message.group); entry != groups_.end()) {
        return ReceiveInGroup(*entry->second, std::move(message));
      }
      if (closed_groups_.count(message.group) > 0) return absl::OkStatus();
      break;
    case ControlMessage::Type::kResult:
      return absl::InvalidArgumentError("it sent a result, which nobody asked for");
  }
  early_[message.group].push_back(std::move(message));
  return absl::OkStatus();
}

absl::Status MpiEngine::ReceiveInGroup(MpiGroup& group, ControlMessage message) {
  if (IsOver(*group.world)) return absl::OkStatus();
  const int size = static_cast<int>(group.processes.size());
  if (message.from < 0 || message.from >= size || message.from == group.rank) {
    return absl::InvalidArgumentError(absl::StrCat("it sent a message of rank ", message.from,
                                                   " of axis ", group.axis, ", to rank ",
                                                   group.rank, " of ", size));
  }
  if (message.type == ControlMessage::Type::kJoin) return ReceiveJoin(group, std::move(message));
  group.left[message.from] = true;
  for (const auto& [key, operation] : group.operations) FailIfSomebodyLeft(group, *operation);
  return absl::OkStatus();
}

absl::Status MpiEngine::ReceiveJoin(MpiGroup& group, ControlMessage message) {
  STRAKE_RETURN_IF_ERROR(
      CheckCall(message.call, message.from, static_cast<int>(group.processes.size())));
  // For a message, both sides name the pair in the same way.
  const std::shared_ptr<MpiOperation> operation = Find(group, KeyOf(message.from, message.call));
  if (!operation->takes_part(message.from)) return absl::OkStatus();
  if (operation->joined(message.from)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", message.from, " joined twice in ", message.call.ToString()));
  }
  const absl::Status status = operation->Join(std::move(message));
  if (!status.ok()) Disagree(group, status);
  return absl::OkStatus();
}

void MpiEngine::Disagree(MpiGroup& group, const absl::Status& cause) {
  group.world->liveness.Fail(
      absl::Status(cause.code(), absl::StrCat("on axis ", group.axis, ", ", cause.message())));
}

void MpiEngine::FailIfSomebodyLeft(MpiGroup& group, const MpiOperation& operation) {
  if (!operation.started()) return;
  for (const int rank : operation.missing_ranks()) {
    if (group.left[rank]) group.world->liveness.Fail(RankLeft(rank, group.axis, operation.call()));
  }
}

// --- Failures. ---

void MpiEngine::Abort(MpiGroup& group, const absl::Status& cause) {
  const std::lock_guard<std::mutex> lock(mutex_);
  group.world->liveness.Fail(
      absl::Status(cause.code(), absl::StrCat("rank ", group.rank, " of axis ", group.axis,
                                              " aborted: ", cause.message())),
      /*aborted=*/true);
  WakeBackground();
}

bool MpiEngine::AbortedByAnotherProcess() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::any_of(worlds_.begin(), worlds_.end(),
                     [](const auto& world) { return world->liveness.aborted_elsewhere(); });
}

bool MpiEngine::IsOver(const MpiWorld& world) {
  return !world.liveness.failure().ok() && Clock::now() >= world.over_at;
}

void MpiEngine::FailAllIfBroken() {
  if (transport_->broken().ok()) return;
  for (const auto& world : worlds_) world->liveness.Fail(transport_->broken());
}

absl::Status MpiEngine::Failure(const MpiGroup& group, const CollectiveCall& call) const {
  const absl::Status& cause = group.world->liveness.failure();
  return absl::Status(
      cause.code(),
      absl::StrCat("[", CollectiveName(call.kind), " #", call.sequence, ", axis ", group.axis,
                   ", rank ", group.rank, " of ", group.processes.size(), "] ", cause.message()));
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
