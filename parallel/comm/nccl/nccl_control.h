// NcclControl: what the processes of a run on GPUs share beside NCCL, over TCP connections to rank
// 0.
//
// It does collectives of tensors on the CPU, tells every process of a failure, and misses processes
// that die (their connection ends) or do not come. A thread reads the connections and watches the
// clocks of those that wait; it calls neither CUDA nor NCCL but through `on_failure`.
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
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/file_descriptor.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/nccl/nccl_handshake.h"
#include "parallel/comm/nccl/nccl_hub.h"
#include "parallel/comm/nccl/nccl_message.h"

namespace strake {

// A group as its members know it.
struct NcclGroup {
  uint64_t id = 0;
  std::string axis;
  int rank = 0;
  std::vector<int> processes;  // by rank
  std::chrono::milliseconds timeout{0};
};

class NcclControl {
 public:
  // All processes have met. `on_failure` is called once, when the groups have failed.
  NcclControl(int rank, int size, NcclConnections connections, std::function<void()> on_failure);
  // Leaves. Rank 0, through which the others talk, waits until all have left, at most for the
  // longest timeout of a group; after a failure for two seconds, that all may learn of it.
  ~NcclControl();
  NcclControl(const NcclControl&) = delete;
  NcclControl& operator=(const NcclControl&) = delete;

  // This process has started a collective. `call` need not stay.
  void Started(const NcclGroup& group, const CollectiveCall& call);

  // The data of a tensor on the CPU, or a call to be compared, goes to rank 0: Await() gives what
  // the call gives this rank. At most one Await() per ticket.
  int64_t Join(const NcclGroup& group, const CollectiveCall& call);
  absl::StatusOr<std::vector<std::byte>> Await(int64_t ticket, const NcclGroup& group,
                                               const CollectiveCall& call);

  // Polls `done` until it is true, fails, the groups fail, or the time is up. `what` is what the
  // rank waits in, for the error.
  absl::Status WaitUntil(const NcclGroup& group, const std::string& what,
                         const std::function<absl::StatusOr<bool>()>& done);

  // Fails all groups of all processes. The first cause stays.
  void Fail(const absl::Status& cause);
  // Ok as long as nothing has failed.
  absl::Status failure();
  // `error`, or the failure that may be behind it: NCCL can find a connection broken before it is
  // known here who died.
  absl::Status FailureOr(const absl::Status& error);

 private:
  using Clock = std::chrono::steady_clock;
  // Group, sender and receiver (-1 for collectives).
  using Counter = std::tuple<uint64_t, int, int>;
  struct LastCall {
    NcclGroup group;
    CollectiveCall call;
    int64_t num_started;
  };
  struct Answer {
    bool waits = false;
    std::map<Counter, int64_t> started;
  };
  // Somebody who waits on this process.
  struct Waiter {
    const NcclGroup& group;
    const CollectiveCall* call;  // null for a wait in something else
    const std::string what;
    Clock::time_point deadline;
    std::optional<Clock::time_point> asked_until{};
    std::map<int, Answer> answers{};  // by process
  };
  class Waiting;

  static Counter CounterOf(const NcclGroup& group, const CollectiveCall& call);
  // With the mutex held.
  void Send(int process, NcclMessage message);
  void Post(NcclMessage message);
  void RouteFromHub(int from, NcclMessage message);
  void Deliver(const std::vector<NcclHub::Delivery>& deliveries);
  void Receive(NcclMessage message);
  void ReceiveAnswer(const NcclMessage& message);
  void SendAnswer(int asker);
  void SetFailure(const absl::Status& cause);
  void MissTheDead();
  void WatchClocks();
  absl::Status TimedOut(const Waiter& waiter) const;
  std::string Blame(const Waiter& waiter) const;
  std::vector<int> MissingIn(const Waiter& waiter, const NcclGroup& group, const Counter& counter,
                             int64_t num_started) const;
  std::vector<int> ProcessesThatDoNotWait(const Waiter& waiter) const;

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
  std::vector<bool> left_;                                    // by process
  absl::Status failure_;
  bool told_of_failure_ = false, stopping_ = false;
  std::map<int64_t, std::vector<std::byte>> results_;  // by ticket
  int64_t num_tickets_ = 0;
  std::map<Counter, int64_t> started_;
  std::map<uint64_t, LastCall> last_calls_;  // by group
  std::set<Waiter*> waiters_;
  std::chrono::milliseconds longest_timeout_{0};

  std::thread thread_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_CONTROL_H_
