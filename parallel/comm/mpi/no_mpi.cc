// mpi_communicator.h in a build without MPI.
#include "absl/status/status.h"
#include "glog/logging.h"
#include "parallel/comm/mpi/mpi_communicator.h"

namespace strake {

class MpiEngine {};

absl::StatusOr<std::unique_ptr<MpiRuntime>> MpiRuntime::Create() {
  return absl::UnimplementedError(
      "[mpi] this binary was built where Open MPI was not installed; install libopenmpi-dev "
      "(`apt-get install libopenmpi-dev`) and build again");
}

// Create() makes no runtime, so these are never called.
MpiRuntime::MpiRuntime(std::shared_ptr<MpiEngine> engine) : engine_(std::move(engine)) {}
MpiRuntime::~MpiRuntime() = default;
int MpiRuntime::rank() const { return 0; }
int MpiRuntime::size() const { return 1; }
bool MpiRuntime::AbortedByAnotherProcess() const { return false; }
std::unique_ptr<Communicator> MpiRuntime::CreateWorld(const CommunicatorOptions&) {
  LOG(FATAL) << "[mpi] a build without MPI";
}
void MpiRuntime::ExitAfterFailure(int) { LOG(FATAL) << "[mpi] a build without MPI"; }

}  // namespace strake
