#include "parallel/comm/nccl/nccl_communicator.h"

#include <cstring>
#include <deque>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "glog/logging.h"
#include "parallel/comm/nccl/nccl_calls.h"
#include "parallel/comm/nccl/nccl_world.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

bool IsMessage(const CollectiveCall& call) {
  return call.kind == Kind::kSend || call.kind == Kind::kRecv;
}

// A collective with tensors on the GPU.
struct Operation {
  CollectiveCall call;
  CudaStream bound_stream = nullptr;
  std::optional<int64_t> ticket{};  // of the comparison with the other ranks' calls
  CudaEvent ready{}, done{};        // on the bound stream, on the group's
  bool launched = false;
};

// This rank's end of a group; operations that outlive the communicator hold it.
class Lane {
 public:
  Lane(std::shared_ptr<NcclWorld> world, ProcessGroup group, NcclComm comm, CudaOwnStream stream)
      : world_(std::move(world)),
        group_(std::move(group)),
        comm_(comm),
        stream_(std::move(stream)) {}
  // Waits for the work in flight on its stream: nothing can end it once the comm is being
  // destroyed.
  ~Lane() {
    const absl::Status idle = WaitForOwnStream();
    if (!idle.ok()) Fail(idle);
    world_->Close(comm_);
  }

  const std::shared_ptr<NcclWorld>& world() const { return world_; }
  NcclControl& control() const { return world_->control(); }
  const ProcessGroup& group() const { return group_; }
  NcclComm comm() const { return comm_; }

  absl::StatusOr<std::shared_ptr<Operation>> Start(CollectiveCall call, CudaStream bound_stream,
                                                   bool compare) {
    auto operation = std::make_shared<Operation>(Operation{std::move(call), bound_stream});
    STRAKE_ASSIGN_OR_RETURN(operation->ready, CudaEvent::Create());
    STRAKE_ASSIGN_OR_RETURN(operation->done, CudaEvent::Create());
    STRAKE_RETURN_IF_ERROR(operation->ready.Record(bound_stream));
    if (compare) operation->ticket = control().Join(group_, operation->call);
    queue_.push_back(operation);
    if (!compare && !IsMessage(operation->call)) STRAKE_RETURN_IF_ERROR(LaunchAll());
    return operation;
  }

  absl::Status Wait(const Operation& operation) {
    if (!operation.launched) STRAKE_RETURN_IF_ERROR(LaunchAll());
    if (IsMessage(operation.call)) STRAKE_RETURN_IF_ERROR(AwaitComparison(operation));
    STRAKE_RETURN_IF_ERROR(control().failure());
    return operation.done.MakeWait(operation.bound_stream);
  }

  // Launches in the order of the calls, which is the same on every rank. Neighbouring messages form
  // one launch, so that a rank can receive before its own send is received.
  absl::Status LaunchAll() {
    while (!queue_.empty()) {
      std::vector<std::shared_ptr<Operation>> together;
      do {
        together.push_back(queue_.front());
        queue_.pop_front();
      } while (IsMessage(together.back()->call) && !queue_.empty() &&
               IsMessage(queue_.front()->call));
      STRAKE_RETURN_IF_ERROR(Launch(together));
    }
    return absl::OkStatus();
  }

  // Waits for all collectives of the group.
  absl::Status WaitForOwnStream() { return WaitForStream(stream_.get()); }

  absl::Status WaitForStream(CudaStream stream) {
    STRAKE_RETURN_IF_ERROR(LaunchAll());
    STRAKE_ASSIGN_OR_RETURN(CudaEvent event, CudaEvent::Create());
    STRAKE_RETURN_IF_ERROR(event.Record(stream));
    return WaitForEvent(event);
  }

  absl::Status WaitForEvent(const CudaEvent& event) {
    return control().WaitUntil(group_, "what its GPU does", [&]() -> absl::StatusOr<bool> {
      STRAKE_RETURN_IF_ERROR(world_->Idle().status());  // detects a broken NCCL connection
      return event.Done();
    });
  }

  // Turns this process's own failure into a failure of all, with its rank; the first one is kept.
  void Fail(const absl::Status& status) {
    control().Fail(absl::Status(status.code(), absl::StrCat("rank ", group_.rank, " of axis ",
                                                            group_.axis, " ", status.message())));
  }

  // Ok, or an error: `prefix` and the cause of the groups' failure, which is `status` if that is
  // the first.
  absl::Status FailedUnlessOk(const absl::Status& status, const std::string& prefix) {
    if (status.ok()) return status;
    Fail(status);
    const absl::Status failure = control().failure();
    return absl::Status(failure.code(), absl::StrCat(prefix, failure.message()));
  }

 private:
  absl::Status AwaitComparison(const Operation& operation) {
    if (!operation.ticket) return absl::OkStatus();
    return control().Await(*operation.ticket, group_, operation.call).status();
  }

  absl::Status Launch(const std::vector<std::shared_ptr<Operation>>& operations) {
    for (const auto& operation : operations) {
      // A message starts without its peer, who may first need what this rank does next.
      if (!IsMessage(operation->call)) STRAKE_RETURN_IF_ERROR(AwaitComparison(*operation));
      STRAKE_RETURN_IF_ERROR(operation->ready.MakeWait(stream_.get()));
    }
    STRAKE_RETURN_IF_ERROR(RecordTimings(operations, &CollectiveTiming::begin));
    STRAKE_RETURN_IF_ERROR(world_->Launch(group_, comm_, [&](const NcclLibrary& nccl) {
      NcclResult result = NcclResult::kSuccess;
      for (const auto& operation : operations) {
        if (result != NcclResult::kSuccess && result != NcclResult::kInProgress) break;
        result = CallNccl(nccl, operation->call, group_.rank, comm_, stream_.get());
      }
      return result;
    }));
    STRAKE_RETURN_IF_ERROR(RecordTimings(operations, &CollectiveTiming::end));
    for (const auto& operation : operations) {
      STRAKE_RETURN_IF_ERROR(operation->done.Record(stream_.get()));
      operation->launched = true;
    }
    return absl::OkStatus();
  }

  absl::Status RecordTimings(const std::vector<std::shared_ptr<Operation>>& operations,
                             CudaEvent CollectiveTiming::*event) {
    for (const auto& operation : operations) {
      CollectiveTiming* const timing = operation->call.timing.get();
      if (timing != nullptr) STRAKE_RETURN_IF_ERROR((timing->*event).Record(stream_.get()));
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<NcclWorld> world_;
  const ProcessGroup group_;
  const NcclComm comm_;
  const CudaOwnStream stream_;
  std::deque<std::shared_ptr<Operation>> queue_;  // not launched yet
};

// Waits until all ranks of a new group have connected, so that no rank continues while another one
// fails.
absl::Status MeetInNewGroup(NcclControl& control, const ProcessGroup& group, CallSite site) {
  const CollectiveCall meet{.kind = Kind::kBarrier, .sequence = -1, .site = site};
  return control.Await(control.Join(group, meet), group, meet).status();
}

class NcclCommunicator : public Communicator {
 public:
  static absl::StatusOr<std::unique_ptr<Communicator>> Create(std::shared_ptr<NcclWorld> world,
                                                              ProcessGroup group, NcclComm comm,
                                                              CommunicatorOptions options) {
    STRAKE_ASSIGN_OR_RETURN(CudaOwnStream stream, CudaOwnStream::Create(CudaStreamPriority::kHigh));
    return std::make_unique<NcclCommunicator>(
        std::make_shared<Lane>(std::move(world), std::move(group), comm, std::move(stream)),
        std::move(options));
  }
  NcclCommunicator(std::shared_ptr<Lane> lane, CommunicatorOptions options)
      : Communicator(lane->group().rank, static_cast<int>(lane->group().processes.size()),
                     std::move(options)),
        lane_(std::move(lane)) {}

  void Abort(const absl::Status& cause) override {
    CHECK(!cause.ok()) << "[comm] rank " << rank() << " aborts without a cause";
    lane_->control().Fail(absl::Status(
        cause.code(),
        absl::StrCat("rank ", rank(), " of axis ", axis(), " aborted: ", cause.message())));
  }

  absl::Status WaitForStream(CudaStream stream) override {
    return lane_->FailedUnlessOk(lane_->WaitForStream(stream), Prefix("cuda_stream"));
  }

  absl::Status WaitForEvent(const CudaEvent& event) override {
    return lane_->FailedUnlessOk(lane_->WaitForEvent(event), Prefix("cuda_event"));
  }

  void StartMessages() override {
    const absl::Status status = lane_->LaunchAll();
    if (!status.ok()) lane_->Fail(status);
  }

  // Check mode communicates on the host.
  bool CanBeCaptured() const override { return !this->options().check; }

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    auto handle = std::make_shared<Handle>(this, std::move(call));
    return [handle] { return handle->Wait(); };
  }

  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override {
    absl::StatusOr<std::unique_ptr<Communicator>> part = TrySplit(call, std::move(options));
    STRAKE_RETURN_IF_ERROR(lane_->FailedUnlessOk(part.status(), Prefix(NameOf(call))));
    return part;
  }

 private:
  // This rank's part in a collective. Without a Wait(), the destructor fails the group.
  class Handle {
   public:
    Handle(NcclCommunicator* communicator, CollectiveCall call)
        : lane_(communicator->lane_),
          prefix_(communicator->Prefix(NameOf(call))),
          call_(std::move(call)) {
      const absl::Status status = Start(communicator);
      if (!status.ok()) lane_->Fail(status);
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
      if (waited_) return;
      lane_->Fail(absl::AbortedError(
          absl::StrCat("dropped ", call_.ToString(), " without waiting for it")));
    }

    absl::Status Wait() {
      waited_ = true;
      // For a tensor on the CPU a result that has arrived counts, even if something has failed
      // since.
      return lane_->FailedUnlessOk(operation_ != nullptr ? lane_->Wait(*operation_) : Receive(),
                                   prefix_);
    }

   private:
    absl::Status Start(NcclCommunicator* communicator) {
      STRAKE_RETURN_IF_ERROR(lane_->control().failure());
      lane_->control().Started(lane_->group(), call_);
      if (call_.device == Device::kCpu) {
        ticket_ = lane_->control().Join(lane_->group(), call_);
        return absl::OkStatus();
      }
      STRAKE_ASSIGN_OR_RETURN(operation_, lane_->Start(call_, communicator->cuda_stream(),
                                                       communicator->options().check));
      return absl::OkStatus();
    }

    absl::Status Receive() {
      STRAKE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes,
                              lane_->control().Await(ticket_, lane_->group(), call_));
      const int64_t num_bytes = OutputBytes(call_, lane_->group().rank);
      if (static_cast<int64_t>(bytes.size()) != num_bytes) {
        return absl::InvalidArgumentError(absl::StrCat("got ", bytes.size(),
                                                       " bytes from rank 0 of all, and not ",
                                                       num_bytes, ", for ", call_.ToString()));
      }
      if (!bytes.empty()) std::memcpy(call_.output, bytes.data(), bytes.size());
      return absl::OkStatus();
    }

    const std::shared_ptr<Lane> lane_;
    const std::string prefix_;
    const CollectiveCall call_;
    int64_t ticket_ = -1;                   // a tensor on the CPU
    std::shared_ptr<Operation> operation_;  // a tensor on the GPU
    bool waited_ = false;
  };

  static std::string NameOf(const CollectiveCall& call) {
    return absl::StrCat(CollectiveName(call.kind), " #", call.sequence);
  }
  std::string Prefix(const std::string& what) const {
    return absl::StrCat("[", what, ", axis ", axis(), ", rank ", rank(), " of ", size(), "] ");
  }
  absl::StatusOr<std::unique_ptr<Communicator>> TrySplit(const CollectiveCall& call,
                                                         CommunicatorOptions options) {
    STRAKE_RETURN_IF_ERROR(lane_->control().failure());
    // NCCL may deadlock if it splits a communicator whose kernels run.
    STRAKE_RETURN_IF_ERROR(lane_->WaitForOwnStream());
    const ProcessGroup& parent = lane_->group();
    lane_->control().Started(parent, call);
    STRAKE_ASSIGN_OR_RETURN(
        const std::vector<std::byte> bytes,
        lane_->control().Await(lane_->control().Join(parent, call), parent, call));
    STRAKE_ASSIGN_OR_RETURN(
        const NcclSplit split,
        NcclSplit::Decode(bytes, parent.rank, static_cast<int>(parent.processes.size())));
    ProcessGroup group;
    group.id = split.group;
    group.axis = options.axis;
    group.timeout = options.timeout;
    for (const int rank : split.parent_ranks) {
      if (rank == parent.rank) group.rank = static_cast<int>(group.processes.size());
      group.processes.push_back(parent.processes[rank]);
    }
    STRAKE_ASSIGN_OR_RETURN(
        const NcclComm comm,
        lane_->world()->Split(lane_->comm(), split.color_index, group.rank, group));
    STRAKE_RETURN_IF_ERROR(MeetInNewGroup(lane_->control(), group, call.site));
    return Create(lane_->world(), std::move(group), comm, std::move(options));
  }

  const std::shared_ptr<Lane> lane_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclWorld(const NcclRendezvous& rendezvous,
                                                              const CommunicatorOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(const NcclLibrary* const nccl, LoadNccl());
  return CreateNcclWorld(rendezvous, options, *nccl);
}

absl::StatusOr<std::unique_ptr<Communicator>> CreateNcclWorld(const NcclRendezvous& rendezvous,
                                                              const CommunicatorOptions& options,
                                                              const NcclLibrary& nccl) {
  STRAKE_ASSIGN_OR_RETURN(const std::shared_ptr<NcclWorld> world,
                          NcclWorld::Create(rendezvous, options.timeout, nccl));
  ProcessGroup group;
  group.axis = options.axis;
  group.rank = rendezvous.rank;
  group.timeout = options.timeout;
  group.processes.resize(rendezvous.size);
  std::iota(group.processes.begin(), group.processes.end(), 0);
  const absl::StatusOr<NcclComm> comm = world->Connect(group);
  absl::Status status = comm.status();
  if (status.ok()) status = MeetInNewGroup(world->control(), group, CallSite::Here());
  if (!status.ok()) {
    world->control().Fail(absl::Status(
        status.code(), absl::StrCat("[nccl] rank ", rendezvous.rank, " of ", rendezvous.size,
                                    " cannot connect to the others: ", status.message())));
    return world->control().failure();
  }
  return NcclCommunicator::Create(world, std::move(group), *comm, options);
}

}  // namespace strake
