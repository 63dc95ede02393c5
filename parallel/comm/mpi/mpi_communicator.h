// A group whose ranks are processes, on one machine or many, connected by MPI.
//
//   STRAKE_ASSIGN_OR_RETURN(auto mpi, MpiRuntime::Create());   // once per process
//   auto world = mpi->CreateWorld(options);                    // one rank per process
//
// MPI only moves bytes between processes. Sums are computed here, in rank order, so that bits equal
// those of the threads communicator. Every collective begins with a message from each rank to each
// other rank that describes the call, and carries small data. Large data goes straight from one
// rank's tensor to its destination, once the receiver has described its call. So kinds, counts and
// dtypes are always compared, whatever options.check says. Ranks that wait move the data; while
// they compute, a thread of the runtime moves it.
//
// A rank that fails, aborts, leaves early or drops a result tells the others. One that is killed or
// hangs is detected at the others' timeout.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_COMMUNICATOR_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_COMMUNICATOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "parallel/comm/communicator.h"

namespace strake {

class MpiEngine;

// MPI from MPI_Init to MPI_Finalize. Must outlive the communicators made from it.
class MpiRuntime {
 public:
  // For use under mpirun or srun; a process started alone is a world of one. Returns MPI's error,
  // an error for a second call in a process, and in a build without MPI an error that names the
  // package to install.
  static absl::StatusOr<std::unique_ptr<MpiRuntime>> Create();

  // Waits until every process is here, and finalizes. After a failure it waits at most 2 seconds,
  // and does not finalize MPI if the others do not come.
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int rank() const;
  int size() const;

  // Makes a new group of all processes; each makes the same calls in the same order. CPU tensors. A
  // failure reaches every group that comes from the same world. Other worlds continue, unless large
  // data was in flight then: a process that cannot take its buffers back from MPI stops using MPI,
  // and its calls return an error.
  std::unique_ptr<Communicator> CreateWorld(const CommunicatorOptions& options = {});

  // Returns true if a world has failed because another process called Abort() and will print the
  // error; false for an error that every process should print, for example a timeout.
  bool AbortedByAnotherProcess() const;

  // Ends a process whose group has failed, once it has printed its error: gives the others up to 2
  // seconds to learn of the failure and print theirs, since mpirun kills the remaining processes
  // when one fails. Then exits with `exit_code` without running destructors.
  [[noreturn]] void ExitAfterFailure(int exit_code);

 private:
  explicit MpiRuntime(std::shared_ptr<MpiEngine> engine);
  const std::shared_ptr<MpiEngine> engine_;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_COMMUNICATOR_H_
