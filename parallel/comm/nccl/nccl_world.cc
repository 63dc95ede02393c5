#include "parallel/comm/nccl/nccl_world.h"

#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

// How long the destructor waits for the ends of comms.
constexpr std::chrono::milliseconds kPatience(2000);

}  // namespace

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
  if (connections.text.size() != sizeof(world->id_.bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("[nccl] rank 0 sent an id of ",
                                                   connections.text.size(), " bytes, and not of ",
                                                   sizeof(world->id_.bytes)));
  }
  std::memcpy(world->id_.bytes, connections.text.data(), sizeof(world->id_.bytes));
  world->control_ =
      std::make_unique<NcclControl>(rendezvous.rank, rendezvous.size, std::move(connections),
                                    [world = world.get()] { world->AbortAll(); });
  return world;
}

NcclWorld::~NcclWorld() {
  control_ = nullptr;  // after which AbortAll() has run, if it was to
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (const std::future<void>& end : ends_) end.wait_until(deadline);
}

absl::StatusOr<NcclComm> NcclWorld::Connect(const ProcessGroup& group) {
  NcclConfig config;
  return Make("ncclCommInitRankConfig", group, [&](NcclComm* comm) {
    const NcclResult result = nccl_.comm_init_rank_config(
        comm, static_cast<int>(group.processes.size()), id_, group.rank, &config);
    if (*comm != nullptr) comms_.insert(*comm);  // polled, or aborted, while it connects
    return result;
  });
}

// NCCL reports on the parent, which is polled, whether the new comm is ready, and writes it only
// then.
absl::StatusOr<NcclComm> NcclWorld::Split(NcclComm parent, int color, int key,
                                          const ProcessGroup& group) {
  NcclConfig config;
  return Make("ncclCommSplit", group,
              [&](NcclComm* comm) { return nccl_.comm_split(parent, color, key, comm, &config); });
}

absl::StatusOr<NcclComm> NcclWorld::Make(const char* call, const ProcessGroup& group,
                                         const std::function<NcclResult(NcclComm* comm)>& make) {
  NcclComm* comm;
  NcclResult result;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    STRAKE_RETURN_IF_ERROR(control_->failure());
    comm = &made_->emplace_back(nullptr);
    result = make(comm);
  }
  const absl::Status called = NcclStatus(nccl_, result, call, nullptr);
  if (!called.ok()) return control_->FailureOr(called);
  STRAKE_RETURN_IF_ERROR(control_->WaitUntil(group, call, [this] { return Idle(); }));
  const std::lock_guard<std::mutex> lock(mutex_);
  STRAKE_RETURN_IF_ERROR(control_->failure());
  if (*comm == nullptr) return absl::InternalError(absl::StrCat(call, " made no communicator"));
  comms_.insert(*comm);
  return *comm;
}

void NcclWorld::Close(NcclComm comm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // After a failure AbortAll() has ended the comm, or will.
  if (control_->failure().ok() && comms_.erase(comm) > 0) End(comm, nccl_.comm_destroy);
}

absl::Status NcclWorld::Launch(const ProcessGroup& group, NcclComm comm,
                               const std::function<NcclResult(const NcclLibrary&)>& calls) {
  NcclResult called, ended;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    STRAKE_RETURN_IF_ERROR(control_->failure());
    STRAKE_RETURN_IF_ERROR(NcclStatus(nccl_, nccl_.group_start(), "ncclGroupStart", comm));
    called = calls(nccl_);
    ended = nccl_.group_end();
  }
  absl::Status status = NcclStatus(nccl_, called, "a collective", comm);
  if (status.ok()) status = NcclStatus(nccl_, ended, "ncclGroupEnd", comm);
  if (!status.ok()) return control_->FailureOr(status);
  if (ended == NcclResult::kSuccess) return absl::OkStatus();
  // The first call with a peer opens connections, on a thread of NCCL.
  return control_->WaitUntil(group, "ncclGroupEnd", [this] { return Idle(); });
}

absl::StatusOr<bool> NcclWorld::Idle() {
  const std::lock_guard<std::mutex> lock(mutex_);
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
  for (const NcclComm comm : comms_) End(comm, nccl_.comm_abort);
  comms_.clear();
}

// Ends each comm on its own thread: kernels of one comm may wait, on their stream, for those of
// another. Nothing waits for these calls except the destructor, for a limited time: the caller may
// still have to destroy the graphs that they wait for, or tell the other ranks of a failure.
void NcclWorld::End(NcclComm comm, NcclResult (*how)(NcclComm comm)) {
  std::packaged_task<void()> end([comm, how, made = made_] { (void)how(comm); });
  ends_.push_back(end.get_future());
  std::thread(std::move(end)).detach();
}

}  // namespace strake
