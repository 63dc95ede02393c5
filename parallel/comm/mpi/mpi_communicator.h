// A group whose ranks are processes, on one machine or many, that MPI connects.
//
//   STRAKE_ASSIGN_OR_RETURN(auto mpi, MpiRuntime::Create());   // once per process
//   auto world = mpi->CreateWorld(options);                    // one rank per process
//
// MPI moves bytes from one process to another, and nothing more: sums are made here, in rank order,
// so bits are those of the threads communicator. Every collective begins with a message from each
// rank to each that says what it calls, and carries the data where they are few; data that are many
// go straight from the tensor of one rank to where the other wants them, once it has said so. So
// kinds, counts and dtypes are always compared, whatever options.check says. Whoever waits moves
// the data; a thread of the runtime does while the ranks compute.
//
// A rank that fails, aborts, leaves early or drops a result tells the others. One that is killed or
// hangs is missed at the others' timeout.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_COMMUNICATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "parallel/comm/communicator.h"

namespace strake {

class MpiEngine;

// From MPI_Init to MPI_Finalize. Outlives the communicators made from it.
class MpiRuntime {
 public:
  // Under mpirun or srun; a process started alone is a world of one. An error where MPI gives one,
  // for a second call in a process, and in a build without MPI, which names the package to install.
  static absl::StatusOr<std::unique_ptr<MpiRuntime>> Create();

  // Waits until every process is here, and finalizes. After a failure it waits 2 seconds at most,
  // and leaves MPI as it is when the others do not come.
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int rank() const;
  int size() const;

  // A new group of all processes; each makes the same calls in the same order. CPU tensors. A
  // failure reaches every group that comes from the same world. Other worlds go on, unless large
  // data were on their way then: a process that cannot take its buffers back from MPI uses MPI no
  // more, and its calls return an error.
  std::unique_ptr<Communicator> CreateWorld(const CommunicatorOptions& options = {});

  // Whether the cause of a world's failure is that another process called Abort(), which has the
  // error to print; false for one that every process should tell of, a timeout for example.
  bool AbortedByAnotherProcess() const;

  // The end of a process whose group has failed, once it has printed its error: gives the others up
  // to 2 seconds to learn of the failure and to print theirs, since mpirun kills whoever is left
  // when a process fails, and exits with `exit_code` without running destructors.
  [[noreturn]] void ExitAfterFailure(int exit_code);

 private:
  explicit MpiRuntime(std::shared_ptr<MpiEngine> engine);
  const std::shared_ptr<MpiEngine> engine_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_COMMUNICATOR_H_
