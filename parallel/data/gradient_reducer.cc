#include "parallel/data/gradient_reducer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/types/span.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"
#include "parallel/comm/reduce_in_rank_order.h"
#include "parallel/data/gradient_buckets.h"

namespace strake {
namespace {

// One slot reduces while two are assigned; then that of the bucket with the first parameters.
constexpr int kRingSlots = 3;
constexpr int kNumSlots = kRingSlots + 1;

int SlotOf(int bucket, int num_buckets) {
  return bucket == num_buckets - 1 ? kRingSlots : bucket % kRingSlots;
}

// Each as large as the largest bucket that it will hold.
std::array<int64_t, kNumSlots> SlotElements(const std::vector<ShardRange>& buckets) {
  std::array<int64_t, kNumSlots> sizes = {};
  const int num_buckets = static_cast<int>(buckets.size());
  for (int b = 0; b < num_buckets; ++b) {
    int64_t& size = sizes[SlotOf(b, num_buckets)];
    size = std::max(size, buckets[b].size());
  }
  return sizes;
}

ShardRange UpdatedRange(int64_t num_elements, int dp_size, int dp_rank, int zero) {
  return zero == 0 ? ShardRange{0, num_elements}
                   : DataParallelRange(num_elements, dp_size, dp_rank);
}

void ZeroTensor(const Tensor& x) {
  if (x.num_bytes() > 0) std::memset(x.raw(), 0, x.num_bytes());
}

}  // namespace

GradientReducer::GradientReducer(ParameterArena* parameters, Communicator& dp,
                                 const GradientReducerOptions& options)
    : parameters_(parameters),
      dp_(dp),
      options_(options),
      range_(UpdatedRange(parameters->num_elements(), dp.size(), dp.rank(), options.zero)) {
  for (const ShardRange& range : GradientBuckets(*parameters, options.bucket_bytes)) {
    buckets_.push_back({.range = range});
  }
  for (Parameter& parameter : parameters->parameters()) {
    const auto holds = [&](const Bucket& b) { return b.range.Contains(parameter.offset); };
    const auto bucket = std::find_if(buckets_.begin(), buckets_.end(), holds);
    CHECK(bucket != buckets_.end()) << "[gradient_reducer] no bucket holds " << parameter.name();
    bucket->parameters.push_back(&parameter);
    announcements_[&parameter].bucket = static_cast<int>(bucket - buckets_.begin());
  }
}

absl::StatusOr<std::unique_ptr<GradientReducer>> GradientReducer::Create(
    ParameterArena* parameters, Communicator& dp, const GradientReducerOptions& options) {
  CHECK(options.zero >= 0 && options.zero <= 2 && parameters->values().defined() &&
        parameters->grads().defined() == (options.zero < 2))
      << "[gradient_reducer] zero " << options.zero << ", values "
      << parameters->values().ToString() << ", gradients " << parameters->grads().ToString();
  std::unique_ptr<GradientReducer> reducer(new GradientReducer(parameters, dp, options));
  STRAKE_RETURN_IF_ERROR(reducer->Allocate());
  return reducer;
}

bool GradientReducer::sharded() const { return options_.zero == 2 && dp_.size() > 1; }

size_t GradientReducer::GradientBytes(const ParameterArena& parameters, int dp_size, int dp_rank,
                                      const GradientReducerOptions& options) {
  int64_t elements = parameters.num_elements();
  if (options.zero == 2 && dp_size > 1) {
    elements = DataParallelRange(elements, dp_size, dp_rank).size();
    const auto slots = SlotElements(GradientBuckets(parameters, options.bucket_bytes));
    elements += std::accumulate(slots.begin(), slots.end(), int64_t{0});
  }
  return elements * DTypeSize(parameters.grad_dtype());
}

absl::Status GradientReducer::Allocate() {
  Tensor all = parameters_->grads();
  if (options_.zero == 2) {
    const size_t bytes = GradientBytes(*parameters_, dp_.size(), dp_.rank(), options_);
    STRAKE_ASSIGN_OR_RETURN(memory_, HostMemory::Allocate(bytes));
    const DType dtype = parameters_->grad_dtype();
    all = Tensor(memory_.data(), dtype, {static_cast<int64_t>(bytes / DTypeSize(dtype))});
  }
  if (sharded()) {
    grads_ = all.Rows(0, range_.size());
    PlaceSlots(all.Rows(range_.size(), all.dim(0)));
    return absl::OkStatus();
  }
  grads_ = all.Rows(range_.begin, range_.end);
  for (int b = 0; b < static_cast<int>(buckets_.size()); ++b) {
    buckets_[b].grads = all.Rows(buckets_[b].range.begin, buckets_[b].range.end);
    if (options_.zero == 2) Assign(b);
  }
  return absl::OkStatus();
}

void GradientReducer::PlaceSlots(const Tensor& memory) {
  std::vector<ShardRange> ranges;
  for (const Bucket& bucket : buckets_) ranges.push_back(bucket.range);
  const auto sizes = SlotElements(ranges);
  for (int b = 0; b < static_cast<int>(buckets_.size()); ++b) {
    const int slot = SlotOf(b, static_cast<int>(buckets_.size()));
    const int64_t begin = std::accumulate(sizes.begin(), sizes.begin() + slot, int64_t{0});
    buckets_[b].grads = memory.Rows(begin, begin + buckets_[b].range.size());
    Withdraw(b);
  }
}

// Gives the bucket's parameters their gradients, zeroed.
void GradientReducer::Assign(int bucket) {
  const Bucket& to = buckets_[bucket];
  for (const Reduction& reduction : reductions_) {
    CHECK_NE(buckets_[reduction.bucket].grads.raw(), to.grads.raw())
        << "[gradient_reducer] bucket " << bucket << " gets the slot of bucket " << reduction.bucket
        << ", which is being reduced";
  }
  ZeroTensor(to.grads);
  for (Parameter* parameter : to.parameters) {
    const int64_t begin = parameter->offset - to.range.begin;
    parameter->grad =
        to.grads.Rows(begin, begin + parameter->num_elements()).Reshape(parameter->shape);
  }
}

// Null data: nobody can add to what is being reduced.
void GradientReducer::Withdraw(int bucket) {
  const Bucket& from = buckets_[bucket];
  for (Parameter* parameter : from.parameters) {
    parameter->grad = Tensor(nullptr, from.grads.dtype(), parameter->shape);
  }
}

void GradientReducer::StartMicroBatch(bool last) {
  CHECK(!in_micro_batch_ && !summed_)
      << "[gradient_reducer] StartMicroBatch() "
      << (summed_ ? "without ZeroGrads() after the last one" : "within a micro-batch");
  in_micro_batch_ = true;
  last_ = last;
  next_bucket_ = 0;
  for (auto& [parameter, announcement] : announcements_) announcement.ready = false;
  const int num_buckets = static_cast<int>(buckets_.size());
  for (int b = 0; b < num_buckets; ++b) {
    buckets_[b].num_waiting = static_cast<int64_t>(buckets_[b].parameters.size());
    if (sharded() && (b < kRingSlots - 1 || b == num_buckets - 1)) Assign(b);
  }
}

void GradientReducer::OnGradReady(const Parameter& parameter) {
  const auto found = announcements_.find(&parameter);
  CHECK(in_micro_batch_ && found != announcements_.end())
      << "[gradient_reducer] " << parameter.name() << " announced "
      << (in_micro_batch_ ? "by another arena" : "outside a micro-batch");
  Announcement& announcement = found->second;
  CHECK(!announcement.ready) << "[gradient_reducer] " << parameter.name()
                             << " announced twice in a micro-batch";
  CHECK(parameter.grad.raw() != nullptr)
      << "[gradient_reducer] " << parameter.name() << " announced before its bucket has a slot: "
      << "more than a bucket ahead of bucket " << next_bucket_;
  announcement.ready = true;
  --buckets_[announcement.bucket].num_waiting;
  const int num_buckets = static_cast<int>(buckets_.size());
  // In the order of the buckets, which is that of every rank.
  while (next_bucket_ < num_buckets && buckets_[next_bucket_].num_waiting == 0) {
    Reduce(next_bucket_++);
  }
}

void GradientReducer::Reduce(int bucket) {
  if (dp_.size() == 1 || (!sharded() && !last_)) return;
  reductions_.push_back(StartSum(bucket));
  if (sharded()) Withdraw(bucket);
  const size_t num_in_flight = !options_.overlap ? 0 : sharded() ? 1 : buckets_.size();
  while (reductions_.size() > num_in_flight) FinishOldest();
  const int after_next = bucket + kRingSlots - 1;
  if (sharded() && after_next < static_cast<int>(buckets_.size()) - 1) Assign(after_next);
}

GradientReducer::Reduction GradientReducer::StartSum(int bucket) {
  const Tensor& grads = buckets_[bucket].grads;
  const ShardRange& range = buckets_[bucket].range;
  if (options_.zero == 0) return {bucket, range.begin, dp_.AllReduceSum(grads)};
  const auto counts = DataParallelCounts(range, parameters_->num_elements(), dp_.size());
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + dp_.rank(), int64_t{0});
  const Tensor own = grads.Rows(begin, begin + counts[dp_.rank()]);
  return {bucket, range.begin + begin, dp_.ReduceScatterSum(grads, own, counts)};
}

void GradientReducer::FinishOldest() {
  Reduction reduction = std::move(reductions_.front());
  const absl::StatusOr<Tensor> sums = reduction.sums.Wait();
  reductions_.pop_front();
  error_.Update(sums.status());
  if (!sums.ok() || !sharded() || sums->num_elements() == 0) return;
  const int64_t begin = reduction.begin - range_.begin;
  const Tensor kept = grads_.Rows(begin, begin + sums->num_elements());
  const void* const terms[] = {kept.raw(), sums->raw()};
  void* const output = kept.raw();
  SumInRankOrder(kept.dtype(), terms, kept.num_elements(), absl::MakeConstSpan(&output, 1));
}

absl::Status GradientReducer::FinishMicroBatch() {
  CHECK(in_micro_batch_) << "[gradient_reducer] FinishMicroBatch() without a start";
  for (const Parameter& parameter : parameters_->parameters()) {
    CHECK(announcements_.at(&parameter).ready)
        << "[gradient_reducer] " << parameter.name() << " was not announced in this micro-batch";
  }
  while (!reductions_.empty()) FinishOldest();
  in_micro_batch_ = false;
  summed_ = last_;
  return error_;
}

void GradientReducer::ZeroGrads() {
  CHECK(!in_micro_batch_) << "[gradient_reducer] ZeroGrads() within a micro-batch";
  if (options_.zero == 2) {
    ZeroTensor(grads_);
  } else {
    parameters_->ZeroGrads();
  }
  summed_ = false;
}

}  // namespace strake
