#include "parallel/data/gradient_slots.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/copy/copy.h"
#include "glog/logging.h"

namespace strake {

void PlaceGradients(ParameterArena* parameters, const ShardRange& range, const Tensor& grads) {
  for (ParameterRecord& record : parameters->records()) {
    if (!range.Contains(record.offset)) continue;
    const int64_t begin = record.offset - range.begin;
    record.parameter.grad =
        grads.Rows(begin, begin + record.num_elements()).Reshape(record.shape());
  }
}

absl::Status ClearGradients(const Context& ctx, ParameterArena* parameters, const ShardRange& range,
                            const Tensor& grads) {
  int64_t begin = 0;
  for (ParameterRecord& record : parameters->records()) {
    if (!record.parameter.grad_is_overwritten || !range.Contains(record.offset)) continue;
    record.parameter.grad_is_cleared = true;
    const int64_t end = record.offset - range.begin;
    STRAKE_RETURN_IF_ERROR(SetZero(ctx, grads.Rows(begin, end)));
    begin = end + record.num_elements();
  }
  return SetZero(ctx, grads.Rows(begin, range.size()));
}

int GradientSlots::SlotOf(int bucket, int num_buckets) {
  return bucket == num_buckets - 1 ? kNumShared : bucket % kNumShared;
}

std::array<int64_t, GradientSlots::kNumSlots> GradientSlots::Sizes(
    const std::vector<ShardRange>& buckets) {
  std::array<int64_t, kNumSlots> sizes = {};
  const int num_buckets = static_cast<int>(buckets.size());
  for (int b = 0; b < num_buckets; ++b) {
    int64_t& size = sizes[SlotOf(b, num_buckets)];
    size = std::max(size, buckets[b].size());
  }
  return sizes;
}

int64_t GradientSlots::NumElements(const std::vector<ShardRange>& buckets) {
  const auto sizes = Sizes(buckets);
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

GradientSlots::GradientSlots(ParameterArena* parameters, std::vector<ShardRange> buckets,
                             const Tensor& memory)
    : parameters_(parameters), buckets_(std::move(buckets)) {
  CHECK(memory.shape() == Shape{NumElements(buckets_)})
      << "[gradient_slots] memory " << memory.ToString() << " for " << NumElements(buckets_)
      << " elements";
  const auto sizes = Sizes(buckets_);
  int64_t begin = 0;
  for (int s = 0; s < kNumSlots; ++s) {
    slots_[s] = memory.Rows(begin, begin + sizes[s]);
    begin += sizes[s];
  }
  holders_.fill(kFree);
  const int64_t n = parameters->num_elements();
  PlaceGradients(parameters, {0, n}, Tensor(nullptr, memory.dtype(), {n}, memory.device()));
}

Tensor GradientSlots::grads(int bucket) const {
  return slots_[SlotOf(bucket, num_buckets())].Rows(0, buckets_[bucket].size());
}

absl::Status GradientSlots::StartMicroBatch(const Context& ctx, int begin, int end) {
  end_ = end;
  for (int b = begin; b < end; ++b) {
    if (b >= begin + kNumShared - 1 && b != num_buckets() - 1) continue;
    STRAKE_RETURN_IF_ERROR(Assign(ctx, b));
  }
  return absl::OkStatus();
}

void GradientSlots::Complete(int bucket) {
  const Tensor none(nullptr, slots_[0].dtype(), {buckets_[bucket].size()}, slots_[0].device());
  PlaceGradients(parameters_, buckets_[bucket], none);
}

void GradientSlots::Free(int bucket) {
  int& holder = holders_[SlotOf(bucket, num_buckets())];
  CHECK_EQ(holder, bucket) << "[gradient_slots] holder of a slot that another bucket frees";
  holder = kFree;
}

absl::Status GradientSlots::AssignAfterNext(const Context& ctx, int bucket) {
  const int after_next = bucket + kNumShared - 1;
  const bool assigned = after_next >= std::min(end_, num_buckets() - 1);
  return assigned ? absl::OkStatus() : Assign(ctx, after_next);
}

absl::Status GradientSlots::Assign(const Context& ctx, int bucket) {
  int& holder = holders_[SlotOf(bucket, num_buckets())];
  CHECK_EQ(holder, kFree) << "[gradient_slots] holder of the slot for bucket " << bucket;
  holder = bucket;
  const Tensor x = grads(bucket);
  PlaceGradients(parameters_, buckets_[bucket], x);
  return ClearGradients(ctx, parameters_, buckets_[bucket], x);
}

}  // namespace strake
