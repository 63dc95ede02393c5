#include "parallel/data/weight_gather.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/base/dtype.h"
#include "glog/logging.h"

namespace strake {

WeightGather::WeightGather(const ParameterArena& parameters, Communicator& dp,
                           const GradientReducerOptions& options)
    : values_(parameters.values()),
      dp_(dp),
      overlap_(options.overlap),
      buckets_(GradientBuckets(parameters, options.bucket_bytes)) {
  std::reverse(buckets_.begin(), buckets_.end());
}

void WeightGather::Start() {
  CHECK(gathers_.empty()) << "[weight_gather] Start() before WaitForAll()";
  error_ = absl::OkStatus();
  const ArenaPart all{0, values_};
  for (const ShardRange& bucket : buckets_) {
    const Tensor own = all.Rows(BucketPart(bucket, dp_.size(), dp_.rank()));
    gathers_.push_back({bucket, dp_.AllGather(own, all.Rows(bucket))});
    if (!overlap_) WaitForFirst();
  }
}

void WeightGather::WaitFor(const Parameter& parameter) {
  const int64_t bytes =
      static_cast<const char*>(parameter.value.raw()) - static_cast<const char*>(values_.raw());
  const int64_t offset = bytes / static_cast<int64_t>(DTypeSize(values_.dtype()));
  while (!gathers_.empty() && gathers_.front().bucket.begin <= offset) WaitForFirst();
}

absl::Status WeightGather::WaitForAll() {
  while (!gathers_.empty()) WaitForFirst();
  return error_;
}

void WeightGather::WaitForFirst() {
  Gather gather = std::move(gathers_.front());
  gathers_.pop_front();
  error_.Update(gather.values.Wait().status());
}

}  // namespace strake
