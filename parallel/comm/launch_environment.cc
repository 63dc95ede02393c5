#include "parallel/comm/launch_environment.h"

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace strake {
namespace {

struct Variables {
  const char* rank;
  const char* size;
  const char* local_size;
  const char* local_rank;
  bool mpi;
};

// Slurm's own SLURM_PROCID is also set in a batch script, which runs once; so only the variables
// that srun sets for MPI count.
constexpr Variables kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK", true},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID", true},
    {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", "SLURM_LOCALID", true},
    {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK", false},
};

std::optional<int> Number(const char* variable) {
  const char* const text = std::getenv(variable);
  int value = 0;
  if (text == nullptr || !absl::SimpleAtoi(absl::string_view(text), &value)) return std::nullopt;
  return value;
}

}  // namespace

std::optional<LaunchEnvironment> DetectLaunchEnvironment() {
  for (const Variables& launcher : kLaunchers) {
    const auto rank = Number(launcher.rank), size = Number(launcher.size);
    // RANK alone proves nothing.
    if (!rank.has_value() || (!launcher.mpi && !size.has_value())) continue;
    return LaunchEnvironment{.variable = launcher.rank,
                             .rank = *rank,
                             .size = size.value_or(0),
                             .local_size = Number(launcher.local_size).value_or(0),
                             .local_rank = Number(launcher.local_rank).value_or(*rank),
                             .mpi = launcher.mpi};
  }
  return std::nullopt;
}

}  // namespace strake
