#include "core/base/thread_team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>

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
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace strake
