// The machine's current memory bandwidth, which ops without products are compared with.
#ifndef STRAKE_CORE_DEVICE_MEMORY_STREAM_H_
#define STRAKE_CORE_DEVICE_MEMORY_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/base/thread_team.h"

namespace strake {

// An array whose parts belong to the threads of a team. To measure memory, it must be far larger
// than the caches.
class MemoryStream {
 public:
  // `team` must outlive the stream.
  MemoryStream(ThreadTeam* team, size_t num_bytes);

  // Bytes per second of one pass x = x * factor + term over the array, with each byte counted once
  // as read and once as written. Since the update is in place, that is all the traffic on the
  // memory bus; writing elsewhere would first read the cache lines that are written.
  double MeasurePass();

  // Bytes per second of one read-only pass.
  double MeasureReadPass();

 private:
  ThreadTeam& team_;
  const int64_t size_;
  const std::unique_ptr<float[]> array_;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_MEMORY_STREAM_H_
