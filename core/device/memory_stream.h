// The bandwidth of the machine's memory, as it is now: what ops without products are compared with.
#ifndef STRAKE_CORE_DEVICE_MEMORY_STREAM_H_
#define STRAKE_CORE_DEVICE_MEMORY_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/base/thread_team.h"

namespace strake {

// An array, far larger than the caches if its bandwidth is to be the memory's, whose parts belong
// to the threads of a team.
class MemoryStream {
 public:
  // `team` must outlive the stream.
  MemoryStream(ThreadTeam* team, size_t num_bytes);

  // Bytes per second of one pass x = x * factor + term over the array: it counts each byte once as
  // read and once as written. As the update is in place, that is all that passes the memory bus; a
  // write elsewhere would first have its cache lines read.
  double MeasurePass();

  // Bytes per second of one pass that only reads.
  double MeasureReadPass();

 private:
  ThreadTeam& team_;
  const int64_t size_;
  const std::unique_ptr<float[]> array_;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_MEMORY_STREAM_H_
