#include "tools/run_on_ranks.h"

#include <memory>

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
  const std::unique_ptr<Communicator> world = mpi->CreateWorld(layout.communicator_options());
  const absl::Status status = [&]() -> absl::Status {
    STRAKE_RETURN_IF_ERROR(CheckNumProcesses(layout, world->size()));
    STRAKE_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create(layout.sizes(), *world));
    return body(mesh);
  }();
  if (status.ok()) return status;
  world->Abort(status);
  PrintError(status);
  mpi->ExitAfterFailure(/*exit_code=*/1);
}

}  // namespace strake
