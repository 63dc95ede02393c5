// Drives all groups of a process over MPI: it makes all MPI calls, one thread at a time.
//
// A rank that waits for an operation drives all of them. While operations or messages are in flight
// and no rank waits, a thread of the engine drives them at intervals.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_ENGINE_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_ENGINE_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
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
#include "parallel/comm/mpi/mpi_message.h"
#include "parallel/comm/mpi/mpi_operation.h"
#include "parallel/comm/mpi/mpi_transport.h"

namespace strake {

// State shared by all groups that come from one world, since they fail together.
struct MpiWorld {
  uint64_t id = 0;
  absl::Status failure;
  // The deadline, after a failure, of operations that had already started.
  std::chrono::steady_clock::time_point over_at{};
  // While this process waits in a group of the world: whether a process whose wait timed out waits
  // for it, and which processes wait themselves.
  int num_waiting = 0;
  bool asked = false;
  std::set<int> waiting;
};

// All fields but `operations` and `left` are constant.
struct MpiGroup {
  uint64_t id = 0;
  std::shared_ptr<MpiWorld> world;
  CommunicatorOptions options;
  int rank = 0;
  std::vector<int> processes;  // by rank
  std::vector<bool> left{};    // by rank
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

  void Receive(MpiMessage message);
  void ReceiveJoin(MpiGroup& group, MpiMessage message);
  void ReceiveLeave(MpiGroup& group, int rank);
  void Disagree(MpiGroup& group, const absl::Status& cause);
  void ReceiveQuestion(MpiWorld& world, const MpiMessage& message);
  void TimeIsUp(const MpiGroup& group, const MpiOperation& operation, const CollectiveCall& call,
                int num_asked);
  void FailIfSomebodyLeft(MpiGroup& group, const MpiOperation& operation);

  // The source of a failure: a call of Abort(), this process's operations, or another process.
  enum class Source { kAbort, kHere, kElsewhere };
  // Fails the world. The first cause is kept.
  void Fail(MpiWorld& world, const absl::Status& cause, Source source);
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
  std::map<uint64_t, std::vector<MpiMessage>> early_;
  uint64_t num_offered_ids_ = 0;
  std::chrono::milliseconds longest_timeout_{0};
  bool some_world_failed_ = false, aborted_by_another_process_ = false;

  int num_waiting_ = 0;
  bool stopping_ = false, asleep_ = false;
  std::condition_variable wake_;
  std::thread background_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_ENGINE_H_
