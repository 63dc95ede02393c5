// All-gathers the weights after a sharded update.
#ifndef STRAKE_PARALLEL_DATA_GATHER_VALUES_H_
#define STRAKE_PARALLEL_DATA_GATHER_VALUES_H_

#include "absl/status/status.h"
#include "core/tensor/tensor.h"
#include "parallel/comm/communicator.h"

namespace strake {

// Gathers in place, on every rank of dp, each rank's DataParallelRange of `values` [num_elements],
// the values of a parameter arena. One all-gather; none where dp has one rank. Returns the
// communicator's error.
absl::Status GatherValues(const Tensor& values, Communicator& dp);

}  // namespace strake

#endif  // STRAKE_PARALLEL_DATA_GATHER_VALUES_H_
