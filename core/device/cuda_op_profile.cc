#include "core/device/cuda_op_profile.h"

#include <utility>

#include "core/base/status_macros.h"

namespace strake {

int64_t CudaOpProfile::Now() {
  const absl::StatusOr<int64_t> point = timeline_.Record();
  error_.Update(point.status());
  return point.ok() ? *point : -1;
}

void CudaOpProfile::AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost) {
  ops_.push_back({start, Now(), op, pass, cost});
}

absl::Status CudaOpProfile::Resolve() {
  const std::vector<Op> ops = std::exchange(ops_, {});
  timeline_.Clear();
  STRAKE_RETURN_IF_ERROR(std::exchange(error_, absl::OkStatus()));
  STRAKE_RETURN_IF_ERROR(timeline_.Wait());
  for (const Op& op : ops) {
    STRAKE_ASSIGN_OR_RETURN(const double seconds, timeline_.Seconds(op.start, op.end));
    Add(op.name, op.pass, seconds, op.cost);
  }
  return absl::OkStatus();
}

}  // namespace strake
