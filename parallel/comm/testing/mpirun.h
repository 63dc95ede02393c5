// For tests and benchmarks of the MPI communicator: restarts a binary under mpirun.
#ifndef STRAKE_PARALLEL_COMM_TESTING_MPIRUN_H_
#define STRAKE_PARALLEL_COMM_TESTING_MPIRUN_H_

#include <string>
#include <vector>

namespace strake::testing {

// "mpirun ... -np N" with the options that allow more processes than cores, root as the user, and
// several tests at the same time. Empty where there is no mpirun in PATH.
std::vector<std::string> MpirunCommand(int num_processes);

// Replaces this process by `command`, which is looked up in PATH. Returns only if that fails.
void Exec(const std::vector<std::string>& command);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_MPIRUN_H_
