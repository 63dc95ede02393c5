#include "parallel/data/gather_values.h"

#include <cstdint>

#include "parallel/data/gradient_buckets.h"

namespace strake {

absl::Status GatherValues(const Tensor& values, Communicator& dp) {
  if (dp.size() == 1) return absl::OkStatus();
  const int64_t num_elements = values.num_elements();
  const ShardRange own = DataParallelRange(num_elements, dp.size(), dp.rank());
  return dp
      .AllGather(values.Rows(own.begin, own.end), values,
                 DataParallelCounts({0, num_elements}, num_elements, dp.size()))
      .Wait()
      .status();
}

}  // namespace strake
