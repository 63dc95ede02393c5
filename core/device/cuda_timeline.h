// CudaTimeline: points in the work of a GPU's stream, and the time between them.
#ifndef STRAKE_CORE_DEVICE_CUDA_TIMELINE_H_
#define STRAKE_CORE_DEVICE_CUDA_TIMELINE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/stream.h"

namespace strake {

// Records events, which the host does not wait for, and uses them again after Clear(). Must not be
// used while a graph is captured. Errors are those of the events.
class CudaTimeline {
 public:
  explicit CudaTimeline(CudaStream stream) : stream_(stream) {}

  // Marks the point after all work that is on the stream now, and returns its number, from 0.
  absl::StatusOr<int64_t> Record();
  // Waits on the host for all work that is on the stream now.
  absl::Status Wait() const { return SynchronizeCudaStream(stream_); }

  const CudaEvent& event(int64_t point) const { return events_[point]; }
  // The time between two points that have been reached.
  absl::StatusOr<double> Seconds(int64_t from, int64_t to) const;

  // Forgets the points, whose numbers begin at 0 again.
  void Clear() { num_recorded_ = 0; }

 private:
  const CudaStream stream_;
  std::vector<CudaEvent> events_;
  size_t num_recorded_ = 0;
};

}  // namespace strake

#endif  // STRAKE_CORE_DEVICE_CUDA_TIMELINE_H_
