// CollectiveTiming: how long a collective with tensors on a GPU took, and who waited for it.
#ifndef STRAKE_PARALLEL_COMM_COLLECTIVE_TIMING_H_
#define STRAKE_PARALLEL_COMM_COLLECTIVE_TIMING_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/cuda/cuda_runtime.h"

namespace strake {

// Events of one call, on one rank.
struct CollectiveTiming {
  static absl::StatusOr<std::shared_ptr<CollectiveTiming>> Create();

  CudaEvent begin, end;            // on the group's stream: the collective itself
  CudaEvent wait_begin, wait_end;  // on the bound stream, around Wait()
};

// Since every rank's end waits for every rank's data, a collective's time includes that by which
// other ranks began it later.
struct CollectiveSeconds {
  double total = 0;
  double exposed = 0;  // the bound stream waited
};

// Their sum, once the bound stream is done with what it waited for.
absl::StatusOr<CollectiveSeconds> SumSeconds(
    const std::vector<std::shared_ptr<CollectiveTiming>>& timings);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COLLECTIVE_TIMING_H_
