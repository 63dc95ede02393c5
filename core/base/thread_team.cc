#include "core/base/thread_team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>

#include "core/base/control_group.h"

namespace strake {

void ThreadTeam::ParallelFor(int64_t n, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> body) {
  ParallelForRanges(n, grain, [&](int, int64_t begin, int64_t end) { body(begin, end); });
}

void ThreadTeam::ParallelForTasks(int64_t n, absl::FunctionRef<void(int, int64_t)> body) {
  std::atomic<int64_t> next = 0;
  ParallelForRanges(std::min<int64_t>(n, num_threads_), 1, [&](int thread, int64_t, int64_t) {
    for (int64_t task = next++; task < n; task = next++) body(thread, task);
  });
}

int NumUsableCores() {
  cpu_set_t set;
  const bool known = sched_getaffinity(0, sizeof(set), &set) == 0;
  const int cores = known ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency());
  // Threads beyond the quota only make the others wait.
  const std::optional<double> quota = ReadControlGroupLimits().num_cores;
  return std::max(1, quota.has_value() ? static_cast<int>(std::min<double>(cores, *quota)) : cores);
}

}  // namespace strake
