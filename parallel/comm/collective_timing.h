// CollectiveTiming: how long a collective with tensors on a GPU took, and which part of it was
// exposed.
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
  const char* name = "";           // CollectiveName()
  double bytes = 0;                // of the tensor
};

struct CollectiveSeconds {
  // Time of the collectives themselves, on the group's stream. An NCCL collective waits there for
  // ranks that come later; a threads collective begins only when all have come.
  double total = 0;
  double exposed = 0;  // the bound stream's waits, for the collectives and for later ranks
  double hidden = 0;   // a lower bound on the part of each collective that nobody waited for
};

// Sums the timings, once the bound stream has passed the waits.
absl::StatusOr<CollectiveSeconds> SumSeconds(
    const std::vector<std::shared_ptr<CollectiveTiming>>& timings);

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_COLLECTIVE_TIMING_H_
