// NcclWorld: the state that all NCCL groups of a process share, since they fail together.
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
#include "parallel/comm/liveness.h"
#include "parallel/comm/nccl/nccl_control.h"
#include "parallel/comm/nccl/nccl_library.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"

namespace strake {

// NCCL's functions do not block, are called one at a time, and never after a failure. The
// exceptions are ncclCommDestroy and ncclCommAbort. They block until the comm's kernels have ended
// and the CUDA graphs that contain some are destroyed; ncclCommDestroy perhaps also until other
// ranks call it.
class NcclWorld {
 public:
  static absl::StatusOr<std::shared_ptr<NcclWorld>> Create(const NcclRendezvous& rendezvous,
                                                           std::chrono::milliseconds timeout,
                                                           const NcclLibrary& nccl);
  ~NcclWorld();

  NcclControl& control() { return *control_; }

  // Connects all processes; a collective call.
  absl::StatusOr<NcclComm> Connect(const ProcessGroup& group);
  // Makes a comm of the parent's ranks of one color; a collective call of the parent.
  absl::StatusOr<NcclComm> Split(NcclComm parent, int color, int key, const ProcessGroup& group);
  // Closes a comm. None of its work is in flight on the GPU, unless the groups have failed. May be
  // null.
  void Close(NcclComm comm);

  // Makes NCCL calls that form one ncclGroup, in `calls`; the first result that is an error ends
  // them. On return they are enqueued on their streams. No NCCL group is left open on failure.
  absl::Status Launch(const ProcessGroup& group, NcclComm comm,
                      const std::function<NcclResult(const NcclLibrary&)>& calls);

  // False while NCCL works on an earlier call of any group; returns NCCL's errors.
  absl::StatusOr<bool> Idle();

 private:
  explicit NcclWorld(const NcclLibrary& nccl) : nccl_(nccl) {}
  // Makes the call that creates a comm, waits until the comm is ready, and keeps it.
  absl::StatusOr<NcclComm> Make(const char* call, const ProcessGroup& group,
                                const std::function<NcclResult(NcclComm* comm)>& make);
  void AbortAll();
  void End(NcclComm comm, NcclResult (*how)(NcclComm comm));

  const NcclLibrary& nccl_;
  NcclUniqueId id_;
  std::mutex mutex_;  // guards the calls of NCCL
  std::set<NcclComm> comms_;
  // NCCL writes new comms here, on a thread of its own, until an abort has ended that.
  std::shared_ptr<std::deque<NcclComm>> made_ = std::make_shared<std::deque<NcclComm>>();
  std::vector<std::future<void>> ends_;
  std::unique_ptr<NcclControl> control_;  // last: its thread calls AbortAll()
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_WORLD_H_
