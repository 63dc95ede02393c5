// Whether mpirun, Slurm or torchrun started this process, read from the environment: no MPI is
// needed.
//
// For tools that must tell, before or without MPI, one of many processes from one that runs alone:
// to refuse a run on threads under mpirun, and to print an error once.
#ifndef STRAKE_PARALLEL_COMM_LAUNCH_ENVIRONMENT_H_
#define STRAKE_PARALLEL_COMM_LAUNCH_ENVIRONMENT_H_

#include <optional>
#include <string>

namespace strake {

struct LaunchEnvironment {
  std::string variable;  // that says so: "OMPI_COMM_WORLD_RANK"
  int rank = 0;          // of this process among those started together
  int size = 0;          // how many these are; 0 where the launcher does not say
  int local_size = 0;    // of these on this machine; 0 where the launcher does not say
  int local_rank = 0;    // of this process among those; `rank` where the launcher does not say
  bool mpi = false;      // MPI connects them
};

// Open MPI's mpirun, and launchers that offer PMI or PMIx (srun --mpi=...); or RANK and WORLD_SIZE,
// which torchrun sets. nullopt for a process that was started alone, a variable without a number
// included.
std::optional<LaunchEnvironment> DetectLaunchEnvironment();

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_LAUNCH_ENVIRONMENT_H_
