#include "core/device/cuda_op_profile.h"

#include <utility>

#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<int64_t> CudaOpProfile::RecordNext() {
  if (num_recorded_ == events_.size()) {
    STRAKE_ASSIGN_OR_RETURN(CudaEvent event, CudaEvent::Create(CudaEventKind::kTiming));
    events_.push_back(std::move(event));
  }
  STRAKE_RETURN_IF_ERROR(events_[num_recorded_].Record(stream_));
  return num_recorded_++;
}

int64_t CudaOpProfile::Now() {
  const absl::StatusOr<int64_t> event = RecordNext();
  error_.Update(event.status());
  return event.ok() ? *event : -1;
}

void CudaOpProfile::AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost) {
  ops_.push_back({start, Now(), op, pass, cost});
}

absl::Status CudaOpProfile::Resolve() {
  const std::vector<Op> ops = std::exchange(ops_, {});
  num_recorded_ = 0;
  STRAKE_RETURN_IF_ERROR(std::exchange(error_, absl::OkStatus()));
  STRAKE_RETURN_IF_ERROR(SynchronizeCudaStream(stream_));
  for (const Op& op : ops) {
    STRAKE_ASSIGN_OR_RETURN(const double seconds, events_[op.end].SecondsSince(events_[op.start]));
    Add(op.name, op.pass, seconds, op.cost);
  }
  return absl::OkStatus();
}

}  // namespace strake
