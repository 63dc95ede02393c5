#include "tools/cli/run_on_ranks.h"

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/launch_environment.h"
#include "parallel/comm/mpi/mpi_communicator.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "parallel/comm/nccl/nccl_rendezvous.h"
#include "parallel/mesh/run_on_threads.h"
#include "tools/cli/machine.h"
#include "tools/cli/program.h"

namespace strake {
namespace {

using Body = absl::FunctionRef<absl::Status(const Mesh& mesh)>;

// Runs the body as this process's rank of `world`.
class RankOfWorld {
 public:
  absl::Status Run(const LayoutConfig& layout, Communicator& world, Body body) {
    STRAKE_ASSIGN_OR_RETURN(Mesh created, Mesh::Create(layout.sizes(), world));
    return body(mesh_.emplace(std::move(created)));
  }

 private:
  // Outlives an abort: the other ranks must learn of the error, not that this process has left.
  std::optional<Mesh> mesh_;
};

// Fails the groups of all processes; the caller prints the error.
absl::Status RunOnNccl(const LayoutConfig& layout, const NcclRendezvous& rendezvous, Body body) {
  STRAKE_RETURN_IF_ERROR(CheckNumProcesses(layout, rendezvous.size));
  STRAKE_RETURN_IF_ERROR(SetCudaDevice(CudaDeviceOf(layout)));
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> world,
                          CreateNcclWorld(rendezvous, layout.communicator_options()));
  RankOfWorld rank;
  const absl::Status status = rank.Run(layout, *world, body);
  if (!status.ok()) world->Abort(status);
  return status;
}

// Under mpirun or srun: MPI connects the ranks, or, for GPUs, their rendezvous.
absl::Status RunOnMpi(const LayoutConfig& layout, Body body) {
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<MpiRuntime> mpi, MpiRuntime::Create());
  // Every process finds this error, and the first one prints it.
  STRAKE_RETURN_IF_ERROR(CheckNumProcesses(layout, mpi->size()));
  const std::string warning = LostMachineWarning(layout);
  if (mpi->rank() == 0 && !warning.empty()) std::cerr << "warning: " + warning + "\n";
  const std::unique_ptr<Communicator> world = mpi->CreateWorld(layout.communicator_options());
  RankOfWorld rank;
  const absl::Status status = [&]() -> absl::Status {
    if (layout.comm == "mpi") return rank.Run(layout, *world, body);
    STRAKE_ASSIGN_OR_RETURN(const NcclRendezvous rendezvous, NcclRendezvousOver(*world));
    return RunOnNccl(layout, rendezvous, body);
  }();
  if (status.ok()) return status;
  // Prints before the others know: mpirun ends all processes once one of them has failed.
  if (!mpi->AbortedByAnotherProcess()) PrintError(status);
  world->Abort(status);
  mpi->ExitAfterFailure(/*exit_code=*/1);
}

}  // namespace

absl::Status RunOnRanks(const LayoutConfig& layout, Body body) {
  if (layout.comm == "threads") {
    return RunOnThreads(layout.sizes(), layout.communicator_options(), body);
  }
  const std::optional<LaunchEnvironment> launch = DetectLaunchEnvironment();
  if (layout.comm == "mpi" || (launch.has_value() && launch->mpi)) return RunOnMpi(layout, body);
  STRAKE_ASSIGN_OR_RETURN(const NcclRendezvous rendezvous, NcclRendezvousFromEnvironment());
  return RunOnNccl(layout, rendezvous, body);
}

}  // namespace strake
