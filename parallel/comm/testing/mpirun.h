// For tests and benchmarks of the MPI communicator: a binary that starts itself under mpirun.
#ifndef STRAKE_PARALLEL_COMM_TESTING_MPIRUN_H_
#define STRAKE_PARALLEL_COMM_TESTING_MPIRUN_H_

#include <string>
#include <vector>

namespace strake::testing {

// "mpirun ... -np N" with what lets it start more processes than cores, as root too, and tests at
// the same time. Empty where there is no mpirun in PATH.
std::vector<std::string> MpirunCommand(int num_processes);

// Replaces this process by `command`, which follows PATH. Returns only if that fails.
void Exec(const std::vector<std::string>& command);

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_MPIRUN_H_
