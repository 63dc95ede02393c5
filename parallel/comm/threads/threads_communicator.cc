#include "parallel/comm/threads/threads_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "glog/logging.h"
#include "parallel/comm/threads/shared_memory_pieces.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

struct Group;

// One collective or message. World::mutex guards everything but `calls`, which is constant once all
// have joined, and also the right to do a piece.
struct Operation {
  explicit Operation(std::vector<int> ranks)
      : ranks(std::move(ranks)), calls(this->ranks.size()), call_events(this->ranks.size()) {}

  bool all_joined() const { return num_joined == static_cast<int>(ranks.size()); }
  bool done() const { return agreed && num_pieces_done == num_pieces; }
  const CollectiveCall& call(int slot) const { return *calls[slot]; }

  const std::vector<int> ranks;  // by slot: all, or the sender and the receiver
  JoinedCalls calls;             // by slot
  int num_joined = 0;
  bool agreed = false;  // all have joined, their calls match, and GPU work is enqueued
  int64_t num_pieces = 0, num_pieces_taken = 0, num_pieces_done = 0;
  std::condition_variable changed;
  std::map<int, std::shared_ptr<Group>> subgroups;  // split: by color
  // On a GPU: the points in the ranks' bound streams, by slot, after which their tensors may be
  // accessed, and the point in the group's stream after which they no longer are.
  std::vector<CudaEvent> call_events;
  CudaEvent end_event;
};

// A rank's wait for an operation, for the error at the timeout.
struct Waiter {
  const Group& group;
  const Operation& operation;
  const CollectiveCall& call;
  const int rank;
  const std::string& axis;
  const std::chrono::milliseconds timeout;
};

// State shared by all groups that come from one world, since they fail together.
struct World {
  explicit World(int size) : waiters(size) {}

  std::mutex mutex;
  absl::Status failure;
  std::vector<const Waiter*> waiters;  // by rank in the first group; null for one that computes
  // The operations that a failure wakes. One leaves when it is done; it stays alive until then.
  std::set<Operation*> unfinished;

  // Records the failure; the first cause is kept. Called with the mutex held.
  void Fail(absl::Status cause) {
    if (!failure.ok()) return;
    failure = std::move(cause);
    for (Operation* operation : unfinished) operation->changed.notify_all();
  }
};

// Sender and receiver, -1 for a collective, and the sequence number.
using OperationKey = std::tuple<int, int, int64_t>;

struct Group {
  Group(std::shared_ptr<World> world, std::vector<int> world_ranks)
      : world(std::move(world)),
        size(static_cast<int>(world_ranks.size())),
        world_ranks(std::move(world_ranks)),
        left(size, false) {}

  const std::shared_ptr<World> world;
  const int size;
  const std::vector<int> world_ranks;                             // by rank, in the first group
  std::vector<bool> left;                                         // under world->mutex
  std::map<OperationKey, std::shared_ptr<Operation>> incomplete;  // under world->mutex
  std::optional<CudaOwnStream> cuda_stream;                       // under world->mutex
};

// --- Joining and agreement. ---

// "rank 1 called all_gather #3 ...".
std::string Called(const Operation& operation, int slot) {
  return absl::StrCat("rank ", operation.ranks[slot], " called ", operation.call(slot).ToString());
}

absl::Status Agreement(const Operation& operation) {
  const int slots = static_cast<int>(operation.calls.size());
  // In an all-to-all each pair of ranks has its own counts; otherwise all compare with rank 0.
  const int first_slots = operation.call(0).kind == Kind::kAllToAll ? slots : 1;
  for (int a = 0; a < first_slots; ++a) {
    for (int b = a + 1; b < slots; ++b) {
      if (CallsAgree(operation.ranks[a], operation.call(a), operation.ranks[b],
                     operation.call(b))) {
        continue;
      }
      return absl::FailedPreconditionError(
          absl::StrCat("ranks disagree: ", Called(operation, a), "; ", Called(operation, b)));
    }
  }
  return absl::OkStatus();
}

std::vector<int> MissingRanks(const Operation& operation) {
  std::vector<int> missing;
  for (size_t slot = 0; slot < operation.calls.size(); ++slot) {
    if (!operation.calls[slot]) missing.push_back(operation.ranks[slot]);
  }
  return missing;
}

absl::Status TimedOut(const Waiter& waiter, const std::vector<int>& missing) {
  return absl::DeadlineExceededError(
      absl::StrCat(missing.size() == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "),
                   " of axis ", waiter.axis, " did not join within ", waiter.timeout.count(),
                   " ms: rank ", waiter.rank, " waits in ", waiter.call.ToString()));
}

// A missing rank may itself be waiting for another one. The ranks to blame do not wait.
absl::Status TimedOut(const Waiter& first) {
  const World& world = *first.group.world;
  const Waiter* waiter = &first;
  for (size_t hop = 0; hop < world.waiters.size(); ++hop) {
    const Waiter* next = nullptr;
    std::vector<int> to_blame;
    for (const int rank : MissingRanks(waiter->operation)) {
      const Waiter* const other = world.waiters[waiter->group.world_ranks[rank]];
      const bool waits = other != nullptr && !other->operation.all_joined();
      if (waits) next = other;
      if (!waits) to_blame.push_back(rank);
    }
    if (!to_blame.empty()) return TimedOut(*waiter, to_blame);
    waiter = next;
  }
  return TimedOut(first, MissingRanks(first.operation));  // they wait for each other
}

// The ranks of `color` in the order of (key, rank).
std::vector<int> MembersOf(const Operation& split, int color) {
  std::vector<int> members;
  for (const int rank : split.ranks) {
    if (split.call(rank).color == color) members.push_back(rank);
  }
  std::stable_sort(members.begin(), members.end(),
                   [&](int a, int b) { return split.call(a).key < split.call(b).key; });
  return members;
}

// --- On a GPU. ---

absl::StatusOr<CudaEvent> RecordEvent(CudaStream stream) {
  STRAKE_ASSIGN_OR_RETURN(CudaEvent event, CudaEvent::Create());
  STRAKE_RETURN_IF_ERROR(event.Record(stream));
  return event;
}

absl::Status RecordTimings(const Operation& operation, CudaEvent CollectiveTiming::*event,
                           CudaStream stream) {
  for (const auto& call : operation.calls) {
    if (call->timing == nullptr) continue;
    STRAKE_RETURN_IF_ERROR(((*call->timing).*event).Record(stream));
  }
  return absl::OkStatus();
}

// Called with the mutex held: in the group's stream's order, no operation waits for a later one.
absl::Status EnqueueOnCuda(Operation& operation, Group& group) {
  if (!group.cuda_stream) {
    STRAKE_ASSIGN_OR_RETURN(group.cuda_stream, CudaOwnStream::Create(CudaStreamPriority::kHigh));
  }
  const CudaStream stream = group.cuda_stream->get();
  for (const CudaEvent& event : operation.call_events) {
    STRAKE_RETURN_IF_ERROR(event.MakeWait(stream));
  }
  STRAKE_RETURN_IF_ERROR(RecordTimings(operation, &CollectiveTiming::begin, stream));
  STRAKE_RETURN_IF_ERROR(Enqueue(operation.calls, stream));
  STRAKE_RETURN_IF_ERROR(RecordTimings(operation, &CollectiveTiming::end, stream));
  STRAKE_ASSIGN_OR_RETURN(operation.end_event, RecordEvent(stream));
  return absl::OkStatus();
}

class ThreadsCommunicator : public Communicator {
 public:
  ThreadsCommunicator(std::shared_ptr<Group> group, int rank, CommunicatorOptions options)
      : Communicator(rank, group->size, std::move(options)), group_(std::move(group)) {}
  ~ThreadsCommunicator() override { Leave(); }

  void Abort(const absl::Status& cause) override {
    CHECK(!cause.ok()) << "[comm] rank " << rank() << " aborts without a cause";
    const std::lock_guard<std::mutex> lock(world().mutex);
    world().Fail(absl::Status(cause.code(), absl::StrCat("rank ", rank(), " of axis ", axis(),
                                                         " aborted: ", cause.message())));
  }

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    return [handle = Join(std::move(call))] { return handle->Wait(); };
  }

  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override {
    const int color = call.color;
    const std::shared_ptr<Handle> handle = Join(std::move(call));
    if (absl::Status status = handle->Wait(); !status.ok()) return status;
    const Operation& operation = handle->operation();
    const std::vector<int> members = MembersOf(operation, color);
    const auto at = std::find(members.begin(), members.end(), rank());
    return std::make_unique<ThreadsCommunicator>(
        operation.subgroups.at(color), static_cast<int>(at - members.begin()), std::move(options));
  }

 private:
  // This rank's part in an operation. Without a Wait(), the destructor fails the group, and
  // releases the buffers only when no rank reads them any more.
  class Handle {
   public:
    Handle(ThreadsCommunicator& communicator, CollectiveCall call,
           std::shared_ptr<Operation> operation)
        : group_(communicator.group_),
          rank_(communicator.rank()),
          axis_(communicator.axis()),
          timeout_(communicator.options().timeout),
          cuda_stream_(call.device == Device::kCuda ? communicator.cuda_stream() : nullptr),
          call_(std::move(call)),
          operation_(std::move(operation)) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

    ~Handle() {
      if (waited_) return;
      std::unique_lock<std::mutex> lock(world().mutex);
      if (!operation_->done()) {
        world().Fail(
            absl::AbortedError(absl::StrCat("rank ", rank_, " of axis ", axis_, " dropped ",
                                            call_.ToString(), " without waiting for it")));
      }
      (void)Finish(lock);
    }

    const Operation& operation() const { return *operation_; }

    absl::Status Wait() {
      waited_ = true;
      std::unique_lock<std::mutex> lock(world().mutex);
      const auto deadline = std::chrono::steady_clock::now() + timeout_;
      Operation& operation = *operation_;
      const Waiter self{*group_, operation, call_, rank_, axis_, timeout_};
      world().waiters[group_->world_ranks[rank_]] = &self;
      while (!operation.done() && world().failure.ok()) {
        if (operation.num_pieces_taken < operation.num_pieces) {
          TakePiece(lock);
        } else if (operation.all_joined()) {
          operation.changed.wait(lock);  // another rank does the last piece
        } else if (operation.changed.wait_until(lock, deadline) == std::cv_status::timeout &&
                   !operation.all_joined()) {
          world().Fail(TimedOut(self));
        }
      }
      world().waiters[group_->world_ranks[rank_]] = nullptr;
      return Finish(lock);
    }

   private:
    World& world() const { return *group_->world; }

    void TakePiece(std::unique_lock<std::mutex>& lock) {
      const int64_t piece = operation_->num_pieces_taken++;
      lock.unlock();
      DoPiece(operation_->calls, piece);
      lock.lock();
      ++operation_->num_pieces_done;
      if (operation_->done()) world().unfinished.erase(operation_.get());
      // After a failure, ranks wait for the pieces in progress.
      if (operation_->done() || !world().failure.ok()) operation_->changed.notify_all();
    }

    // Waits until no rank accesses the buffers; on a GPU, the bound stream waits.
    absl::Status Finish(std::unique_lock<std::mutex>& lock) {
      Operation& operation = *operation_;
      operation.changed.wait(
          lock, [&] { return operation.num_pieces_done == operation.num_pieces_taken; });
      if (!operation.done()) return InThisCall(world().failure);
      if (call_.device == Device::kCpu) return absl::OkStatus();
      return InThisCall(operation.end_event.MakeWait(cuda_stream_));
    }

    absl::Status InThisCall(const absl::Status& status) const {
      return absl::Status(
          status.code(),
          absl::StrCat("[", CollectiveName(call_.kind), " #", call_.sequence, ", axis ", axis_,
                       ", rank ", rank_, " of ", group_->size, "] ", status.message()));
    }

    const std::shared_ptr<Group> group_;
    const int rank_;
    const std::string axis_;
    const std::chrono::milliseconds timeout_;
    const CudaStream cuda_stream_;  // for a call on a GPU
    const CollectiveCall call_;
    const std::shared_ptr<Operation> operation_;
    bool waited_ = false;
  };

  World& world() const { return *group_->world; }

  std::shared_ptr<Handle> Join(CollectiveCall call) {
    const bool on_cuda = call.device == Device::kCuda;
    absl::StatusOr<CudaEvent> call_event = on_cuda ? RecordEvent(cuda_stream()) : CudaEvent();
    const std::lock_guard<std::mutex> lock(world().mutex);
    const auto [key, slot] = KeyAndSlot(call);
    if (!call_event.ok()) FailBecauseOf(call_event.status());
    if (!world().failure.ok()) {  // Wait() returns the failure
      return std::make_shared<Handle>(*this, call, std::make_shared<Operation>(RanksOf(key)));
    }
    std::shared_ptr<Operation>& entry = group_->incomplete[key];
    if (entry == nullptr) entry = std::make_shared<Operation>(RanksOf(key));
    const std::shared_ptr<Operation> operation = entry;
    world().unfinished.insert(operation.get());
    auto handle = std::make_shared<Handle>(*this, call, operation);
    operation->calls[slot] = std::move(call);
    operation->call_events[slot] = std::move(call_event).value();
    ++operation->num_joined;
    if (operation->all_joined()) {
      group_->incomplete.erase(key);
      Ready(*operation);
    } else {
      FailIfSomebodyLeft(*operation);
    }
    return handle;
  }

  std::pair<OperationKey, int> KeyAndSlot(const CollectiveCall& call) const {
    if (call.kind == Kind::kSend) return {{rank(), call.peer, call.sequence}, 0};
    if (call.kind == Kind::kRecv) return {{call.peer, rank(), call.sequence}, 1};
    return {{-1, -1, call.sequence}, rank()};
  }

  std::vector<int> RanksOf(const OperationKey& key) const {
    const auto [sender, receiver, sequence] = key;
    if (sender >= 0) return {sender, receiver};
    std::vector<int> all(size());
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  void Ready(Operation& operation) {
    if (const absl::Status status = Agreement(operation); !status.ok()) {
      world().Fail(
          absl::Status(status.code(), absl::StrCat("on axis ", axis(), ", ", status.message())));
      return;
    }
    if (operation.call(0).device == Device::kCpu) {
      operation.num_pieces = NumPieces(operation.calls);
    } else if (const absl::Status status = EnqueueOnCuda(operation, *group_); !status.ok()) {
      return FailBecauseOf(status);
    }
    operation.agreed = true;
    if (operation.done()) world().unfinished.erase(&operation);
    if (operation.call(0).kind == Kind::kSplit) MakeSubgroups(operation);
    operation.changed.notify_all();
  }

  // Fails the group with an error of this rank's GPU.
  void FailBecauseOf(const absl::Status& error) {
    world().Fail(absl::Status(
        error.code(), absl::StrCat("rank ", rank(), " of axis ", axis(), ": ", error.message())));
  }

  void MakeSubgroups(Operation& split) const {
    for (const int rank : split.ranks) {
      const int color = split.call(rank).color;
      std::shared_ptr<Group>& subgroup = split.subgroups[color];
      if (subgroup != nullptr) continue;
      std::vector<int> world_ranks;
      for (const int member : MembersOf(split, color)) {
        world_ranks.push_back(group_->world_ranks[member]);
      }
      subgroup = std::make_shared<Group>(group_->world, std::move(world_ranks));
    }
  }

  void FailIfSomebodyLeft(const Operation& operation) {
    for (size_t slot = 0; slot < operation.ranks.size(); ++slot) {
      if (operation.calls[slot] || !group_->left[operation.ranks[slot]]) continue;
      const auto joined = std::find_if(operation.calls.begin(), operation.calls.end(),
                                       [](const auto& call) { return call.has_value(); });
      world().Fail(
          absl::AbortedError(absl::StrCat("rank ", operation.ranks[slot], " of axis ", axis(),
                                          " left the group before ", (*joined)->ToString())));
    }
  }

  void Leave() {
    const std::lock_guard<std::mutex> lock(world().mutex);
    group_->left[rank()] = true;
    for (const auto& [key, operation] : group_->incomplete) FailIfSomebodyLeft(*operation);
  }

  const std::shared_ptr<Group> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> CreateThreadsCommunicators(
    int size, const CommunicatorOptions& options) {
  CHECK_GT(size, 0) << "[comm] ranks";
  std::vector<int> world_ranks(size);
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  auto group = std::make_shared<Group>(std::make_shared<World>(size), std::move(world_ranks));
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(std::make_unique<ThreadsCommunicator>(group, rank, options));
  }
  return ranks;
}

}  // namespace strake
