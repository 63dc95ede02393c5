#include "parallel/comm/mpi/mpi_communicator.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "parallel/comm/mpi/mpi_engine.h"

namespace strake {
namespace {

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiEngine> engine, std::shared_ptr<MpiGroup> group)
      : Communicator(group->rank, static_cast<int>(group->processes.size()), group->options),
        engine_(std::move(engine)),
        group_(std::move(group)) {}
  ~MpiCommunicator() override { engine_->Close(*group_); }

  void Abort(const absl::Status& cause) override {
    CHECK(!cause.ok()) << "[comm] rank " << rank() << " aborts without a cause";
    engine_->Abort(*group_, cause);
  }

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    if (call.device != Device::kCpu) return OnlyOnCpu(call);
    return [handle = Join(std::move(call))] { return handle->Wait(); };
  }

  absl::StatusOr<std::unique_ptr<Communicator>> SplitGroup(CollectiveCall call,
                                                           CommunicatorOptions options) override {
    const std::shared_ptr<Handle> handle = Join(std::move(call));
    if (absl::Status status = handle->Wait(); !status.ok()) return status;
    return std::make_unique<MpiCommunicator>(
        engine_, engine_->OpenSplit(*group_, handle->operation(), options));
  }

 private:
  // This rank's part in an operation. Without a Wait(), the destructor fails the group.
  class Handle {
   public:
    Handle(const MpiCommunicator& communicator, CollectiveCall call)
        : engine_(communicator.engine_),
          group_(communicator.group_),
          call_(call),
          operation_(engine_->Start(*group_, std::move(call))) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
      if (!waited_) engine_->Drop(*group_, *operation_, call_);
    }

    absl::Status Wait() {
      waited_ = true;
      return engine_->Wait(*group_, *operation_, call_);
    }
    const MpiOperation& operation() const { return *operation_; }

   private:
    const std::shared_ptr<MpiEngine> engine_;
    const std::shared_ptr<MpiGroup> group_;
    const CollectiveCall call_;
    const std::shared_ptr<MpiOperation> operation_;
    bool waited_ = false;
  };

  // Fails the group, since the others may have joined with tensors on the CPU.
  std::function<absl::Status()> OnlyOnCpu(const CollectiveCall& call) {
    const absl::Status error = absl::UnimplementedError(absl::StrCat(
        "[", CollectiveName(call.kind), " #", call.sequence, ", axis ", axis(), ", rank ", rank(),
        " of ", size(), "] over MPI, tensors are on the CPU, and this is on a GPU: use NCCL, or ",
        "ranks that are threads"));
    Abort(error);
    return [error] { return error; };
  }

  std::shared_ptr<Handle> Join(CollectiveCall call) {
    return std::make_shared<Handle>(*this, std::move(call));
  }

  const std::shared_ptr<MpiEngine> engine_;
  const std::shared_ptr<MpiGroup> group_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MpiRuntime>> MpiRuntime::Create() {
  auto engine = MpiEngine::Create();
  if (!engine.ok()) return engine.status();
  return std::unique_ptr<MpiRuntime>(new MpiRuntime(std::move(*engine)));
}

MpiRuntime::MpiRuntime(std::shared_ptr<MpiEngine> engine) : engine_(std::move(engine)) {}

MpiRuntime::~MpiRuntime() {
  if (!engine_->End()) {
    LOG(ERROR) << "[mpi] process " << rank() << " of " << size()
               << " ends without MPI_Finalize: not all processes have ended";
  }
}

int MpiRuntime::rank() const { return engine_->rank(); }
int MpiRuntime::size() const { return engine_->size(); }

bool MpiRuntime::AbortedByAnotherProcess() const { return engine_->AbortedByAnotherProcess(); }

std::unique_ptr<Communicator> MpiRuntime::CreateWorld(const CommunicatorOptions& options) {
  return std::make_unique<MpiCommunicator>(engine_, engine_->OpenWorld(options));
}

void MpiRuntime::ExitAfterFailure(int exit_code) {
  std::fflush(nullptr);
  google::FlushLogFiles(google::INFO);
  engine_->EndAfterFailure();
  _exit(exit_code);
}

}  // namespace strake
