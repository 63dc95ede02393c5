// NcclWorld: what the groups of a process share that NCCL connects, since they fail together.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_WORLD_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_WORLD_H_

#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "parallel/comm/nccl/nccl_control.h"
#include "parallel/comm/nccl/nccl_library.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"

namespace strake {

// NCCL's functions do not block and are called one at a time, after a failure not at all; but for
// ncclCommDestroy and ncclCommAbort, which block until the comm's kernels have ended and the CUDA
// graphs that hold some are gone, the first perhaps until other ranks call it, too.
class NcclWorld {
 public:
  static absl::StatusOr<std::shared_ptr<NcclWorld>> Create(const NcclRendezvous& rendezvous,
                                                           std::chrono::milliseconds timeout,
                                                           const NcclLibrary& nccl);
  ~NcclWorld();

  NcclControl& control() { return *control_; }

  // Of all processes; Connect() is a collective call.
  absl::StatusOr<NcclComm> Connect(const NcclGroup& group);
  // The ranks of a color of the parent; a collective call of the parent.
  absl::StatusOr<NcclComm> Split(NcclComm parent, int color, int key, const NcclGroup& group);
  // Nothing of the comm is under way on the GPU, or the groups have failed. Null is fine.
  void Close(NcclComm comm);

  // Calls of NCCL that go together, in `calls`: the first result that is an error ends them. They
  // are on their streams when this returns; without a group around them if that failed.
  absl::Status Launch(const NcclGroup& group, NcclComm comm,
                      const std::function<NcclResult(const NcclLibrary&)>& calls);

  // False while NCCL works on an earlier call of any group; its errors.
  absl::StatusOr<bool> Idle();

 private:
  explicit NcclWorld(const NcclLibrary& nccl) : nccl_(nccl) {}
  // Calls what makes a comm, waits until it is there, and keeps it.
  absl::StatusOr<NcclComm> Make(const char* call, const NcclGroup& group,
                                const std::function<NcclResult(NcclComm* comm)>& make);
  void AbortAll();
  void End(NcclComm comm, NcclResult (*how)(NcclComm comm));

  const NcclLibrary& nccl_;
  NcclUniqueId id_;
  std::mutex mutex_;  // guards the calls of NCCL
  std::set<NcclComm> comms_;
  // Where NCCL writes what it makes, on a thread of its own, until an abort has ended that.
  std::shared_ptr<std::deque<NcclComm>> made_ = std::make_shared<std::deque<NcclComm>>();
  std::vector<std::future<void>> ends_;
  std::unique_ptr<NcclControl> control_;  // last: its thread calls AbortAll()
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_WORLD_H_
