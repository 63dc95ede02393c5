#include <omp.h>

#include <algorithm>

#include "core/base/thread_ranges.h"
#include "core/base/thread_team.h"
#include "glog/logging.h"

namespace strake {

struct ThreadTeam::Pool {};  // OpenMP keeps the threads

ThreadTeam::ThreadTeam(int num_threads)
    : num_threads_(std::min(num_threads, omp_get_thread_limit())) {
  CHECK_GE(num_threads, 1) << "[thread_team] num_threads";
  // oneDNN divides its work by the number of threads it asked for; with fewer, its products are
  // incomplete.
  omp_set_dynamic(0);
  omp_set_num_threads(num_threads_);
}

ThreadTeam::~ThreadTeam() = default;

void ThreadTeam::ParallelForRanges(int64_t n, int64_t grain,
                                   absl::FunctionRef<void(int, int64_t, int64_t)> body) {
  const ThreadRanges ranges(n, grain, num_threads_);
  if (ranges.count == 0) return;
  if (ranges.count == 1) return body(0, 0, n);
    // OpenMP may give fewer threads than requested, so it distributes the ranges over those it has.
#pragma omp parallel for num_threads(ranges.count) schedule(static, 1)
  for (int r = 0; r < ranges.count; ++r) body(r, ranges.Begin(r), ranges.End(r));
}

}  // namespace strake
