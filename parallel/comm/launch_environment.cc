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
};

// Slurm's own SLURM_PROCID also stands in the environment of a batch script, which runs once; so
// only what srun sets up for MPI counts.
constexpr Variables kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"},
    {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE"},
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
    if (const auto rank = Number(launcher.rank)) {
      return LaunchEnvironment{launcher.rank, *rank, Number(launcher.size).value_or(0),
                               Number(launcher.local_size).value_or(0)};
    }
  }
  return std::nullopt;
}

}  // namespace strake
