#include "parallel/data/gradient_reducer.h"

#include <algorithm>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/ops/cast/cast.h"
#include "core/ops/copy/copy.h"
#include "core/ops/residual_add/residual_add.h"
#include "glog/logging.h"
#include "parallel/data/gradient_buckets.h"

namespace strake {

GradientReducer::GradientReducer(ParameterArena* parameters, Communicator& dp,
                                 const GradientReducerOptions& options)
    : parameters_(parameters),
      dp_(dp),
      options_(options),
      ranges_(UpdatedRanges(*parameters, dp.size(), dp.rank(), options)),
      buckets_(GradientBuckets(*parameters, options.bucket_bytes)),
      summed_(parameters->parts().size()) {}

absl::StatusOr<std::unique_ptr<GradientReducer>> GradientReducer::Create(
    ParameterArena* parameters, Communicator& dp, const GradientReducerOptions& options) {
  CHECK(options.zero >= 0 && options.zero <= 2 && parameters->values().defined() &&
        parameters->grads().defined() == (options.zero < 2))
      << "[gradient_reducer] zero " << options.zero << ", values "
      << parameters->values().ToString() << ", gradients " << parameters->grads().ToString();
  CHECK(!options.reduce_in_bf16 || parameters->grad_dtype() == DType::kF32)
      << "[gradient_reducer] gradients " << DTypeName(parameters->grad_dtype())
      << ", to be reduced in bf16";
  std::unique_ptr<GradientReducer> reducer(new GradientReducer(parameters, dp, options));
  STRAKE_RETURN_IF_ERROR(reducer->Allocate());
  return reducer;
}

GradientReducer::OwnElements GradientReducer::Own(const ParameterArena& parameters, int dp_size,
                                                  const GradientReducerOptions& options) {
  OwnElements own;
  if (options.zero == 2) own.grads = parameters.num_elements() / dp_size;
  if (dp_size == 1) return own;
  const std::vector<ShardRange> buckets = GradientBuckets(parameters, options.bucket_bytes);
  if (options.zero == 2) own.grads += GradientSlots::NumElements(buckets);
  if (!options.reduce_in_bf16) return own;
  for (const ShardRange& bucket : buckets) own.staging = std::max(own.staging, 2 * bucket.size());
  return own;
}

size_t GradientReducer::GradientBytes(const ParameterArena& parameters, int dp_size,
                                      const GradientReducerOptions& options) {
  const OwnElements own = Own(parameters, dp_size, options);
  const int64_t of_arena = options.zero == 2 ? 0 : parameters.num_elements();
  return (of_arena + own.grads) * DTypeSize(parameters.grad_dtype()) +
         own.staging * DTypeSize(DType::kBf16);
}

absl::Status GradientReducer::Allocate() {
  const OwnElements own = Own(*parameters_, dp_.size(), options_);
  const DType dtype = parameters_->grad_dtype();
  const Device device = parameters_->values().device();
  const size_t grad_bytes = own.grads * DTypeSize(dtype);
  const size_t bytes = grad_bytes + own.staging * DTypeSize(DType::kBf16);
  if (bytes > 0 && !dp_.dry_run()) {
    STRAKE_ASSIGN_OR_RETURN(memory_, DeviceMemory::Allocate(device, bytes));
  }
  char* const data = static_cast<char*>(memory_.data());
  staging_ =
      Tensor(data == nullptr ? nullptr : data + grad_bytes, DType::kBf16, {own.staging}, device);
  if (options_.zero < 2) {
    const ArenaPart all{0, parameters_->grads()};
    for (const ShardRange& range : ranges_) grads_.push_back({range.begin, all.Rows(range)});
    return absl::OkStatus();
  }
  const Tensor grads(data, dtype, {own.grads}, device);
  kept_ = grads.Rows(0, parameters_->num_elements() / dp_.size());
  grads_ = PartsOf(ranges_, kept_);
  if (dp_.size() == 1) {
    PlaceGradients(parameters_, {0, parameters_->num_elements()}, kept_);
  } else {
    slots_.emplace(parameters_, buckets_, grads.Rows(kept_.dim(0), own.grads));
  }
  return absl::OkStatus();
}

Tensor GradientReducer::BucketGrads(int bucket) const {
  if (sharded()) return slots_->grads(bucket);
  const ShardRange& range = buckets_[bucket];
  return parameters_->grads().Rows(range.begin, range.end);
}

int GradientReducer::NumBucketsDownTo(int i) const {
  if (i == static_cast<int>(parameters_->records().size())) return 0;
  const int64_t offset = parameters_->records()[i].offset;
  return static_cast<int>(
      std::count_if(buckets_.begin(), buckets_.end(),
                    [offset](const ShardRange& bucket) { return bucket.begin >= offset; }));
}

void GradientReducer::StartMicroBatch(const Context& ctx, bool last, int part) {
  const std::vector<int>& parts = parameters_->parts();
  const int num_parts = static_cast<int>(parts.size());
  CHECK(part >= 0 && part < num_parts) << "[gradient_reducer] part " << part << " of " << num_parts;
  CHECK(!in_micro_batch_ && !summed_[part])
      << "[gradient_reducer] StartMicroBatch() of part " << part
      << (in_micro_batch_ ? " within a micro-batch" : " without ClearGrads() after its last one");
  in_micro_batch_ = true;
  last_ = last;
  part_ = part;
  waiting_begin_ = parts[part];
  waiting_end_ =
      part + 1 < num_parts ? parts[part + 1] : static_cast<int>(parameters_->records().size());
  next_bucket_ = NumBucketsDownTo(waiting_end_);
  const LayerScope layer(ctx, "gradients");
  if (!sharded()) return;
  error_.Update(slots_->StartMicroBatch(ctx, next_bucket_, NumBucketsDownTo(waiting_begin_)));
}

void GradientReducer::OnGradReady(const Context& ctx, const Parameter& parameter) {
  const auto name = [&] { return parameters_->RecordOf(parameter).name(); };
  CHECK(in_micro_batch_) << "[gradient_reducer] " << name() << " announced outside a micro-batch";
  CHECK_GT(waiting_end_, waiting_begin_)
      << "[gradient_reducer] " << name() << " announced after the last of part " << part_;
  const ParameterRecord& next = parameters_->records()[waiting_end_ - 1];
  CHECK_EQ(&parameter, &next.parameter)
      << "[gradient_reducer] " << name() << " announced, but " << next.name()
      << " is the next one from the end of part " << part_;
  --waiting_end_;
  if (next.offset == buckets_[next_bucket_].begin) Reduce(ctx, next_bucket_++);
}

void GradientReducer::Reduce(const Context& ctx, int bucket) {
  if (dp_.size() == 1 || (!sharded() && !last_)) return;
  const LayerScope layer(ctx, "gradients");
  reductions_.push_back(StartSum(ctx, bucket));
  if (sharded()) slots_->Complete(bucket);
  const size_t num_in_flight = !options_.overlap ? 0 : limited() ? 1 : buckets_.size();
  while (reductions_.size() > num_in_flight) FinishOldest(ctx);
  if (sharded()) error_.Update(slots_->AssignAfterNext(ctx, bucket));
}

GradientReducer::Reduction GradientReducer::StartSum(const Context& ctx, int bucket) {
  ArenaPart all{buckets_[bucket].begin, BucketGrads(bucket)};
  if (in_bf16()) {
    const int64_t begin = bucket % 2 * staging_.num_elements() / 2;
    const Tensor rounded = staging_.Rows(begin, begin + all.values.num_elements());
    error_.Update(Cast(ctx, all.values, rounded));
    all.values = rounded;
  }
  if (options_.zero == 0) return {bucket, dp_.AllReduceSum(all.values)};
  return {bucket, dp_.ReduceScatterSum(all.values, all.Rows(PartOf(bucket).range()))};
}

void GradientReducer::FinishOldest(const Context& ctx) {
  Reduction reduction = std::move(reductions_.front());
  reductions_.pop_front();
  const absl::StatusOr<Tensor> sums = reduction.sums.Wait();
  error_.Update(sums.status());
  if (sums.ok()) error_.Update(TakeSums(ctx, reduction.bucket, *sums));
  if (sharded()) slots_->Free(reduction.bucket);
}

absl::Status GradientReducer::TakeSums(const Context& ctx, int bucket, const Tensor& sums) const {
  const Tensor own = options_.zero == 0 ? BucketGrads(bucket) : PartOf(bucket).values;
  if (in_bf16()) return sharded() ? CastAdd(ctx, sums, own) : Cast(ctx, sums, own);
  return sharded() ? ResidualAddForward(ctx, own, sums, own) : absl::OkStatus();
}

absl::Status GradientReducer::FinishMicroBatch(const Context& ctx) {
  CHECK(in_micro_batch_) << "[gradient_reducer] FinishMicroBatch() without a start";
  CHECK_EQ(waiting_end_, waiting_begin_)
      << "[gradient_reducer] " << parameters_->records()[waiting_end_ - 1].name()
      << " was not announced in this micro-batch of part " << part_;
  in_micro_batch_ = false;
  summed_[part_] = last_;
  const bool step_ends = std::find(summed_.begin(), summed_.end(), false) == summed_.end();
  while ((limited() || step_ends) && !reductions_.empty()) FinishOldest(ctx);
  return error_;
}

absl::Status GradientReducer::ClearGrads(const Context& ctx) {
  CHECK(!in_micro_batch_) << "[gradient_reducer] ClearGrads() within a micro-batch";
  CHECK(reductions_.empty()) << "[gradient_reducer] ClearGrads() before the last micro-batch of "
                             << std::count(summed_.begin(), summed_.end(), false) << " of "
                             << summed_.size() << " parts";
  summed_.assign(summed_.size(), false);
  const LayerScope layer(ctx, "gradients");
  if (sharded()) return SetZero(ctx, kept_);
  return ClearGradients(ctx, parameters_, {0, parameters_->num_elements()},
                        options_.zero == 2 ? kept_ : parameters_->grads());
}

}  // namespace strake
