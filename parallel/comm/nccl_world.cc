#include "parallel/comm/nccl_world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<std::shared_ptr<NcclWorld>> NcclWorld::Create(const NcclRendezvous& rendezvous,
                                                             std::chrono::milliseconds timeout,
                                                             const NcclLibrary& nccl) {
  std::shared_ptr<NcclWorld> world(new NcclWorld(nccl));
  if (rendezvous.rank == 0) {
    STRAKE_RETURN_IF_ERROR(
        NcclStatus(nccl, nccl.get_unique_id(&world->id_), "ncclGetUniqueId", nullptr));
  }
  STRAKE_ASSIGN_OR_RETURN(
      NcclConnections connections,
      MeetOverTcp(rendezvous, timeout, std::string(world->id_.bytes, sizeof(world->id_.bytes))));
  std::memcpy(world->id_.bytes, connections.text.data(),
              std::min(sizeof(world->id_.bytes), connections.text.size()));
  world->control_ =
      std::make_unique<NcclControl>(rendezvous.rank, rendezvous.size, std::move(connections),
                                    [world = world.get()] { world->AbortAll(); });
  return world;
}

NcclWorld::~NcclWorld() = default;

absl::StatusOr<NcclComm> NcclWorld::Connect(const NcclGroup& group) {
  NcclConfig config;
  NcclComm comm = nullptr;
  NcclResult result;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    result = nccl_.comm_init_rank_config(&comm, static_cast<int>(group.processes.size()), id_,
                                         group.rank, &config);
    if (comm != nullptr) comms_.insert(comm);
  }
  return Finish(result, "ncclCommInitRankConfig", comm, group);
}

absl::StatusOr<NcclComm> NcclWorld::Split(NcclComm parent, int color, int key,
                                          const NcclGroup& group) {
  NcclConfig config;
  NcclComm comm = nullptr;
  NcclResult result;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) return control_->failure();
    result = nccl_.comm_split(parent, color, key, &comm, &config);
    if (comm != nullptr) comms_.insert(comm);
  }
  return Finish(result, "ncclCommSplit", comm, group);
}

absl::StatusOr<NcclComm> NcclWorld::Finish(NcclResult result, const char* call, NcclComm comm,
                                           const NcclGroup& group) {
  STRAKE_RETURN_IF_ERROR(NcclStatus(nccl_, result, call, comm));
  STRAKE_RETURN_IF_ERROR(control_->WaitUntil(group, call, [this] { return Idle(); }));
  return comm;
}

void NcclWorld::Close(NcclComm comm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (comms_.erase(comm) == 0 || aborted_) return;
  // After a failure that AbortAll() is yet to hear of, collectives may be under way that never end.
  const bool failed = !control_->failure().ok();
  (void)(failed ? nccl_.comm_abort(comm) : nccl_.comm_destroy(comm));
}

absl::Status NcclWorld::Launch(const NcclGroup& group, NcclComm comm,
                               const std::function<NcclResult(const NcclLibrary&)>& calls) {
  NcclResult ended;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (aborted_) return control_->failure();
    STRAKE_RETURN_IF_ERROR(NcclStatus(nccl_, nccl_.group_start(), "ncclGroupStart", comm));
    const NcclResult called = calls(nccl_);
    ended = nccl_.group_end();
    STRAKE_RETURN_IF_ERROR(NcclStatus(nccl_, called, "a collective", comm));
    STRAKE_RETURN_IF_ERROR(NcclStatus(nccl_, ended, "ncclGroupEnd", comm));
  }
  if (ended == NcclResult::kSuccess) return absl::OkStatus();
  // Its first call with some peer makes connections, on a thread of NCCL.
  return control_->WaitUntil(group, "ncclGroupEnd", [this] { return Idle(); });
}

absl::StatusOr<bool> NcclWorld::Idle() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (aborted_) return true;
  for (const NcclComm comm : comms_) {
    NcclResult state = NcclResult::kSuccess;
    STRAKE_RETURN_IF_ERROR(
        NcclStatus(nccl_, nccl_.comm_get_async_error(comm, &state), "ncclCommGetAsyncError", comm));
    if (state == NcclResult::kInProgress) return false;
    STRAKE_RETURN_IF_ERROR(NcclStatus(nccl_, state, "a collective", comm));
  }
  return true;
}

void NcclWorld::AbortAll() {
  const std::lock_guard<std::mutex> lock(mutex_);
  aborted_ = true;
  for (const NcclComm comm : comms_) (void)nccl_.comm_abort(comm);
}

}  // namespace strake
