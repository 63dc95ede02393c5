#include "parallel/data/gradient_buckets.h"

#include <algorithm>
#include <deque>

#include "core/base/dtype.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr int64_t kUnit = ParameterArena::kAlignmentElements;

// The positions of the buckets' first parameters, from the arena's end.
std::vector<int> FirstRecords(const ParameterArena& parameters, DType grad_dtype,
                              int64_t bucket_bytes) {
  CHECK_GT(bucket_bytes, 0) << "[gradient_buckets] bucket_bytes";
  const std::deque<ParameterRecord>& all = parameters.records();
  const std::vector<int>& parts = parameters.parts();
  std::vector<int> first;
  int64_t bytes = 0;
  for (int i = static_cast<int>(all.size()) - 1; i >= 0; --i) {
    bytes += (all[i].num_elements() + kUnit - 1) / kUnit * kUnit * DTypeSize(grad_dtype);
    const bool must_end = std::binary_search(parts.begin(), parts.end(), i) || all[i].own_bucket ||
                          all[i - 1].own_bucket;
    if (bytes < bucket_bytes && !must_end) continue;
    first.push_back(i);
    bytes = 0;
  }
  return first;
}

}  // namespace

std::vector<ShardRange> GradientBuckets(const ParameterArena& parameters, int64_t bucket_bytes) {
  std::vector<ShardRange> buckets;
  int64_t end = parameters.num_elements();
  for (const int first : FirstRecords(parameters, parameters.grad_dtype(), bucket_bytes)) {
    const int64_t begin = parameters.records()[first].offset;
    buckets.push_back({begin, end});
    end = begin;
  }
  return buckets;
}

void PadBuckets(ParameterArena* parameters, DType dtype, int num_ranks,
                const GradientReducerOptions& options) {
  if (options.zero == 0) return;
  const std::vector<int> first =
      FirstRecords(*parameters, AccumulationDType(dtype), options.bucket_bytes);
  parameters->PadGroups({first.rbegin(), first.rend()}, num_ranks * kUnit);
}

ShardRange BucketPart(const ShardRange& bucket, int num_ranks, int rank) {
  CHECK(bucket.size() % (num_ranks * kUnit) == 0 && rank >= 0 && rank < num_ranks)
      << "[bucket_part] " << bucket.size() << " elements, rank " << rank << " of " << num_ranks;
  const int64_t size = bucket.size() / num_ranks, begin = bucket.begin + rank * size;
  return {begin, begin + size};
}

std::vector<ShardRange> UpdatedRanges(const ParameterArena& parameters, int num_ranks, int rank,
                                      const GradientReducerOptions& options) {
  const int64_t n = parameters.num_elements();
  if (options.zero == 0 || num_ranks == 1 || n == 0) return {{0, n}};
  std::vector<ShardRange> buckets = GradientBuckets(parameters, options.bucket_bytes);
  std::vector<ShardRange> parts;
  for (auto bucket = buckets.rbegin(); bucket != buckets.rend(); ++bucket) {
    parts.push_back(BucketPart(*bucket, num_ranks, rank));
  }
  return parts;
}

}  // namespace strake
