// Cuts a loop into ranges of about the same size, one per thread.
#ifndef STRAKE_CORE_BASE_THREAD_RANGES_H_
#define STRAKE_CORE_BASE_THREAD_RANGES_H_

#include <algorithm>
#include <cstdint>

namespace strake {

struct ThreadRanges {
  ThreadRanges(int64_t n, int64_t grain, int num_threads)
      : n(n),
        grain(grain),
        chunks((n + grain - 1) / grain),
        count(static_cast<int>(std::min<int64_t>(num_threads, chunks))) {}

  int64_t Begin(int range) const { return std::min(n, chunks * range / count * grain); }
  int64_t End(int range) const { return Begin(range + 1); }

  int64_t n;
  int64_t grain;
  int64_t chunks;
  int count;  // number of non-empty ranges; 0 when n is 0
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_THREAD_RANGES_H_
