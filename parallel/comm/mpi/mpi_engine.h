// Drives all groups of a process over MPI: it makes all MPI calls, one thread at a time.
//
// A rank that waits for an operation drives all of them. While operations or messages are in flight
// and no rank waits, a thread of the engine drives them at intervals.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_ENGINE_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_ENGINE_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/liveness.h"
#include "parallel/comm/mpi/mpi_operation.h"
#include "parallel/comm/mpi/mpi_transport.h"

namespace strake {

// State shared by all groups that come from one world, since they fail together.
struct MpiWorld {
  MpiWorld(const Liveness::World& world, const std::function<void(const ControlMessage&)>& send,
           const std::function<void()>& on_failure)
      : liveness(world, send, on_failure) {}

  Liveness liveness;
  // The deadline, after a failure, of operations that had already started.
  std::chrono::steady_clock::time_point over_at{};
};

// All fields but `operations` and `left` are constant.
struct MpiGroup : ProcessGroup {
  std::shared_ptr<MpiWorld> world;
  CommunicatorOptions options;
  std::vector<bool> left{};  // by rank
  // Sender and receiver, -1 for a collective, and the sequence number; until the operation is done.
  using Key = std::tuple<int, int, int64_t>;
  std::map<Key, std::shared_ptr<MpiOperation>> operations{};
};

class MpiEngine {
 public:
  static absl::StatusOr<std::shared_ptr<MpiEngine>> Create();
  explicit MpiEngine(std::unique_ptr<MpiTransport> transport);
  ~MpiEngine();

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }

  std::shared_ptr<MpiGroup> OpenWorld(const CommunicatorOptions& options);
  // Opens the group that a split has made.
  std::shared_ptr<MpiGroup> OpenSplit(const MpiGroup& parent, const MpiOperation& split,
                                      const CommunicatorOptions& options);
  // This rank leaves. Operations of others that still need it then fail.
  void Close(const MpiGroup& group);

  // Starts an operation. If the group has failed, the operation has not started and never ends.
  std::shared_ptr<MpiOperation> Start(MpiGroup& group, CollectiveCall call);
  // Waits for the operation. `call` is for errors.
  absl::Status Wait(MpiGroup& group, MpiOperation& operation, const CollectiveCall& call);
  // Fails the group unless the operation is done. Afterwards MPI no longer uses its buffers.
  void Drop(MpiGroup& group, MpiOperation& operation, const CollectiveCall& call);
  void Abort(MpiGroup& group, const absl::Status& cause);
  bool AbortedByAnotherProcess();

  // Ends this process's use of MPI. Returns false if not all processes do the same.
  bool End();
  // End() after a failure that no other process may know of.
  bool EndAfterFailure();

 private:
  struct Active {
    std::shared_ptr<MpiGroup> group;
    std::shared_ptr<MpiOperation> operation;
    MpiGroup::Key key;
  };

  void Open(const std::shared_ptr<MpiGroup>& group);
  std::shared_ptr<MpiOperation> Find(MpiGroup& group, const MpiGroup::Key& key);

  bool Progress();
  bool ProgressOperations();
  void BackgroundLoop();
  void WakeBackground();

  // Returns an error that names what cannot be in a message.
  absl::Status Receive(ControlMessage message);
  // The world of a message about failures; null if this process has not opened it yet.
  MpiWorld* WorldOf(const ControlMessage& message) const;
  absl::Status ReceiveInGroup(MpiGroup& group, ControlMessage message);
  absl::Status ReceiveJoin(MpiGroup& group, ControlMessage message);
  void Disagree(MpiGroup& group, const absl::Status& cause);
  void FailIfSomebodyLeft(MpiGroup& group, const MpiOperation& operation);

  void Send(const ControlMessage& message);
  void FailAllIfBroken();
  static bool IsOver(const MpiWorld& world);
  void LetGoOfBuffers(std::unique_lock<std::mutex>& lock, MpiOperation& operation);
  absl::Status Failure(const MpiGroup& group, const CollectiveCall& call) const;
  bool End(std::chrono::milliseconds patience);

  const std::unique_ptr<MpiTransport> transport_;
  std::mutex mutex_;  // guards everything below, what it points to, and the transport
  std::vector<Active> active_;
  std::map<uint64_t, std::shared_ptr<MpiGroup>> groups_;
  std::set<uint64_t> closed_groups_;
  std::vector<std::shared_ptr<MpiWorld>> worlds_;
  // Messages for groups and worlds that others have opened before this process.
  std::map<uint64_t, std::vector<ControlMessage>> early_;
  uint64_t num_offered_ids_ = 0;
  std::chrono::milliseconds longest_timeout_{0};
  bool some_world_failed_ = false;

  int num_waiting_ = 0;
  bool stopping_ = false, asleep_ = false;
  std::condition_variable wake_;
  std::thread background_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_ENGINE_H_
