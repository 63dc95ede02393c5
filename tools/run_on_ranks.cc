#include "tools/run_on_ranks.h"

#include <memory>
#include <optional>
#include <utility>

#include "core/base/status_macros.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/mesh/run_on_threads.h"
#include "tools/program.h"

namespace strake {

absl::Status RunOnRanks(const LayoutConfig& layout,
                        absl::FunctionRef<absl::Status(const Mesh& mesh)> body) {
  if (layout.comm == "threads") {
    return RunOnThreads(layout.sizes(), layout.communicator_options(), body);
  }
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<MpiRuntime> mpi, MpiRuntime::Create());
  // Every process meets with this error, and the first of them prints it.
  STRAKE_RETURN_IF_ERROR(CheckNumProcesses(layout, mpi->size()));
  const std::unique_ptr<Communicator> world = mpi->CreateWorld(layout.communicator_options());
  // Outlives the abort: the others are to learn of the error, not that this process has left.
  std::optional<Mesh> mesh;
  const absl::Status status = [&]() -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(Mesh created, Mesh::Create(layout.sizes(), *world));
    return body(mesh.emplace(std::move(created)));
  }();
  if (status.ok()) return status;
  // Before the others know: mpirun ends all processes once one of them has failed.
  if (!mpi->AbortedByAnotherProcess()) PrintError(status);
  world->Abort(status);
  mpi->ExitAfterFailure(/*exit_code=*/1);
}

}  // namespace strake
