#include "parallel/comm/collective_timing.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace strake {

absl::StatusOr<std::shared_ptr<CollectiveTiming>> CollectiveTiming::Create() {
  auto timing = std::make_shared<CollectiveTiming>();
  for (CudaEvent* event : {&timing->begin, &timing->end, &timing->wait_begin, &timing->wait_end}) {
    STRAKE_ASSIGN_OR_RETURN(*event, CudaEvent::Create(CudaEventKind::kTiming));
  }
  return timing;
}

absl::StatusOr<CollectiveSeconds> SumSeconds(
    const std::vector<std::shared_ptr<CollectiveTiming>>& timings) {
  CollectiveSeconds sum;
  for (const auto& timing : timings) {
    STRAKE_ASSIGN_OR_RETURN(const double total, timing->end.SecondsSince(timing->begin));
    STRAKE_ASSIGN_OR_RETURN(const double exposed,
                            timing->wait_end.SecondsSince(timing->wait_begin));
    sum.total += total;
    sum.exposed += exposed;
    sum.hidden += std::max(0.0, total - exposed);
  }
  return sum;
}

}  // namespace strake
