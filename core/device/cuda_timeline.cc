#include "core/device/cuda_timeline.h"

#include <utility>

#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<int64_t> CudaTimeline::Record() {
  if (num_recorded_ == events_.size()) {
    STRAKE_ASSIGN_OR_RETURN(CudaEvent event, CudaEvent::Create(CudaEventKind::kTiming));
    events_.push_back(std::move(event));
  }
  STRAKE_RETURN_IF_ERROR(events_[num_recorded_].Record(stream_));
  return num_recorded_++;
}

absl::StatusOr<double> CudaTimeline::Seconds(int64_t from, int64_t to) const {
  return events_[to].SecondsSince(events_[from]);
}

}  // namespace strake
