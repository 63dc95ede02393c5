#include "parallel/data/gradient_buckets.h"

#include <algorithm>
#include <deque>

#include "core/base/dtype.h"
#include "glog/logging.h"

namespace strake {

ShardRange DataParallelRange(int64_t num_elements, int num_ranks, int rank) {
  constexpr int64_t kUnit = ParameterArena::kAlignmentElements;
  CHECK(num_elements >= 0 && num_elements % kUnit == 0 && rank >= 0 && rank < num_ranks)
      << "[data_parallel_range] " << num_elements << " elements, rank " << rank << " of "
      << num_ranks;
  const int64_t num_units = num_elements / kUnit;
  return {num_units * rank / num_ranks * kUnit, num_units * (rank + 1) / num_ranks * kUnit};
}

ShardRange UpdatedRange(int64_t num_elements, int num_ranks, int rank, int zero) {
  return zero == 0 ? ShardRange{0, num_elements} : DataParallelRange(num_elements, num_ranks, rank);
}

std::vector<int64_t> DataParallelCounts(const ShardRange& part, int64_t num_elements,
                                        int num_ranks) {
  CHECK(0 <= part.begin && part.begin <= part.end && part.end <= num_elements)
      << "[data_parallel_counts] [" << part.begin << ", " << part.end << ") of " << num_elements
      << " elements";
  std::vector<int64_t> counts;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const ShardRange range = DataParallelRange(num_elements, num_ranks, rank);
    counts.push_back(std::clamp(range.end, part.begin, part.end) -
                     std::clamp(range.begin, part.begin, part.end));
  }
  return counts;
}

std::vector<ShardRange> GradientBuckets(const ParameterArena& parameters, int64_t bucket_bytes) {
  CHECK_GT(bucket_bytes, 0) << "[gradient_buckets] bucket_bytes";
  const int64_t element_bytes = DTypeSize(parameters.grad_dtype());
  const std::deque<ParameterRecord>& all = parameters.records();
  std::vector<ShardRange> buckets;
  int64_t end = parameters.num_elements();
  for (auto record = all.rbegin(); record != all.rend(); ++record) {
    const ShardRange bucket = {record->offset, end};
    if (bucket.size() * element_bytes < bucket_bytes && record + 1 != all.rend()) continue;
    buckets.push_back(bucket);
    end = bucket.begin;
  }
  return buckets;
}

}  // namespace strake
