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

struct CollectiveSeconds {
  // Of the collectives themselves, on the group's stream. A NCCL collective waits there for ranks
  // that come later, one of threads does not begin before.
  double total = 0;
  double exposed = 0;  // the bound stream waited, for the collectives and for ranks that came later
  double hidden = 0;   // of each collective what nobody waited for, at least
};

// Their sum, once the bound stream is done with what it waited for.
absl::StatusOr<CollectiveSeconds> SumSeconds(
    const std::vector<std::shared_ptr<CollectiveTiming>>& timings);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COLLECTIVE_TIMING_H_
