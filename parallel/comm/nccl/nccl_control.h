// NcclControl: the control traffic between the processes of a run on GPUs, beside NCCL, over TCP
// connections to rank 0.
//
// It executes collectives of tensors on the CPU, tells every process of a failure, and detects
// processes that die (their connection ends) or do not arrive. A thread reads the connections and
// checks the timeouts of waits; it calls CUDA and NCCL only through `on_failure`.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_CONTROL_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_CONTROL_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/liveness.h"
#include "parallel/comm/nccl/nccl_connection.h"
#include "parallel/comm/nccl/nccl_handshake.h"
#include "parallel/comm/nccl/nccl_hub.h"

namespace strake {

class NcclControl {
 public:
  // Takes the connections once all processes have met. `on_failure` is called once, when the groups
  // have failed.
  NcclControl(int rank, int size, NcclConnections connections, std::function<void()> on_failure);
  // Leaves. Rank 0, through which the others communicate, waits until all have left, at most for
  // the longest timeout of a group; after a failure for two seconds, so that all may learn of it.
  ~NcclControl();
  NcclControl(const NcclControl&) = delete;
  NcclControl& operator=(const NcclControl&) = delete;

  // Records that this process has started a collective. `call` may be destroyed afterwards.
  void Started(const ProcessGroup& group, const CollectiveCall& call);

  // Sends the data of a tensor on the CPU, or a call to be compared, to rank 0. Await() returns the
  // call's result for this rank. At most one Await() per ticket.
  int64_t Join(const ProcessGroup& group, const CollectiveCall& call);
  absl::StatusOr<std::vector<std::byte>> Await(int64_t ticket, const ProcessGroup& group,
                                               const CollectiveCall& call);

  // Polls `done` until it returns true or an error, the groups fail, or the timeout is over. `what`
  // names the wait in the error.
  absl::Status WaitUntil(const ProcessGroup& group, const std::string& what,
                         const std::function<absl::StatusOr<bool>()>& done);

  // Fails all groups of all processes. The first cause is kept.
  void Fail(const absl::Status& cause);
  // Ok until something fails; then the failure.
  absl::Status failure();
  // The failure that may have caused `error`, else `error`: NCCL can find a connection broken
  // before this process knows who died.
  absl::Status FailureOr(const absl::Status& error);

 private:
  using Clock = std::chrono::steady_clock;
  class Waiting;

  absl::Status FailureOr(const absl::Status& error, std::unique_lock<std::mutex>& lock);

  // Called with the mutex held.
  void SendTo(int process, const ControlMessage& message);
  void Post(ControlMessage message);
  // Return what cannot be in a message of another process.
  absl::Status Route(int from, ControlMessage message);
  absl::Status RouteNews(int from, const ControlMessage& message);
  absl::Status Receive(ControlMessage message);
  absl::Status Deliver(std::vector<ControlMessage> results);
  void Read(int process);

  void Loop();
  void WaitForMessages(std::unique_lock<std::mutex>& lock);
  void Wake();

  const int rank_, size_;
  const std::function<void()> on_failure_;
  FileDescriptor wake_read_{-1}, wake_write_{-1};

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<std::unique_ptr<NcclConnection>> connections_;  // by process; rank 0's, or to rank 0
  std::unique_ptr<NcclHub> hub_;                              // on rank 0
  Liveness liveness_;
  bool told_of_failure_ = false, stopping_ = false;
  std::set<int64_t> open_tickets_;                     // without a result
  std::map<int64_t, std::vector<std::byte>> results_;  // by ticket
  int64_t num_tickets_ = 0;
  std::chrono::milliseconds longest_timeout_{0};

  std::thread thread_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_CONTROL_H_
