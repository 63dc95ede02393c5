// Detects whether mpirun, Slurm or torchrun started this process. Reads only the environment, so it
// needs no MPI.
//
// For tools that must distinguish, before or without MPI, one of many processes from a process that
// runs alone: to reject a run on threads under mpirun, and to print an error once.
#ifndef STRAKE_PARALLEL_COMM_LAUNCH_ENVIRONMENT_H_
#define STRAKE_PARALLEL_COMM_LAUNCH_ENVIRONMENT_H_

#include <optional>
#include <string>

namespace strake {

struct LaunchEnvironment {
  std::string variable;  // the one that was found: "OMPI_COMM_WORLD_RANK"
  int rank = 0;          // of this process among those started together
  int size = 0;          // the number of these processes; 0 where the launcher does not say
  int local_size = 0;    // the number of these on this machine; 0 where the launcher does not say
  int local_rank = 0;    // of this process among those; `rank` where the launcher does not say
  bool mpi = false;      // MPI connects them
};

// Detects Open MPI's mpirun, launchers that offer PMI or PMIx (srun --mpi=...), and RANK with
// WORLD_SIZE, which torchrun sets. nullopt for a process that was started alone; a variable that is
// not a number does not count.
std::optional<LaunchEnvironment> DetectLaunchEnvironment();

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_LAUNCH_ENVIRONMENT_H_
