#include "core/base/thread_team.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace strake {

void ThreadTeam::ParallelFor(int64_t n, int64_t grain,
                             absl::FunctionRef<void(int64_t, int64_t)> body) {
  ParallelForRanges(n, grain, [&](int, int64_t begin, int64_t end) { body(begin, end); });
}

int NumUsableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace strake
