#include "parallel/tensor/partial_gradients.h"

#include <cstring>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/base/status_macros.h"
#include "core/memory/segment_runs.h"
#include "glog/logging.h"

namespace strake {
namespace {

// How many ranks have a term of the segment's gradient.
int NumTerms(const ParameterSegment& segment) {
  return segment.slice.partial_grad ? segment.slice.num_holders : 1;
}

// The number of terms that is neither one nor all; 1 where there is no such segment.
int NumKvHolders(const ParameterArena& parameters, int num_ranks) {
  int num_holders = 1;
  for (const Parameter& parameter : parameters.parameters()) {
    for (const ParameterSegment& segment : parameter.segments) {
      const int num_terms = NumTerms(segment);
      if (num_terms == 1 || num_terms == num_ranks) continue;
      CHECK(num_ranks % num_terms == 0 && (num_holders == 1 || num_holders == num_terms))
          << "[partial_gradients] " << segment.name << " has " << num_terms << " holders of "
          << num_ranks << " ranks, another segment " << num_holders;
      num_holders = num_terms;
    }
  }
  return num_holders;
}

void ForEachRun(const ParameterArena& parameters, int num_terms, const ShardRange& range,
                absl::FunctionRef<void(const ShardRange& run)> visit) {
  for (const Parameter& parameter : parameters.parameters()) {
    ForEachSegmentRun(
        parameter, range,
        [&](const ParameterSegment& segment) { return NumTerms(segment) == num_terms; }, visit);
  }
}

int64_t CountRuns(const ParameterArena& parameters, int num_terms, const ShardRange& range) {
  if (num_terms == 1) return 0;
  int64_t count = 0;
  ForEachRun(parameters, num_terms, range, [&](const ShardRange& run) { count += run.size(); });
  return count;
}

}  // namespace

absl::StatusOr<PartialGradients> PartialGradients::Create(const ParameterArena& parameters,
                                                          const TensorParallel& tp) {
  PartialGradients partial(parameters, tp);
  const int num_holders = NumKvHolders(parameters, tp.size());
  if (num_holders == 1) return partial;
  STRAKE_ASSIGN_OR_RETURN(partial.kv_communicator_,
                          tp.communicator().Split(tp.rank() / num_holders, tp.rank(), "kv"));
  partial.kv_ = TensorParallel(*partial.kv_communicator_);
  return partial;
}

PartialGradients PartialGradients::Planned(const ParameterArena& parameters,
                                           const TensorParallel& tp) {
  PartialGradients partial(parameters, tp);
  const int num_holders = NumKvHolders(parameters, tp.size());
  partial.kv_ = TensorParallel::Planned(tp.rank() % num_holders, num_holders);
  return partial;
}

PartialElements PartialGradients::Count(const ParameterArena& parameters, int num_ranks,
                                        const ShardRange& range) {
  return {.all_ranks = CountRuns(parameters, num_ranks, range),
          .kv_holders = CountRuns(parameters, NumKvHolders(parameters, num_ranks), range)};
}

absl::Status PartialGradients::Sum(const Context& ctx, const ShardRange& range,
                                   Tensor grads) const {
  CHECK(grads.shape() == Shape{range.size()} && range.begin >= 0 &&
        range.end <= parameters_->num_elements())
      << "[partial_gradients] grads " << grads.ToString() << " for [" << range.begin << ", "
      << range.end << ") of " << parameters_->num_elements() << " elements";
  const PartialElements count = Count(*parameters_, tp_.size(), range);
  STRAKE_RETURN_IF_ERROR(SumOver(ctx, tp_, count.all_ranks, range, grads));
  return SumOver(ctx, kv_, count.kv_holders, range, grads);
}

absl::Status PartialGradients::SumOver(const Context& ctx, const TensorParallel& holders,
                                       int64_t num_elements, const ShardRange& range,
                                       const Tensor& grads) const {
  if (num_elements == 0) return absl::OkStatus();
  const ActivationScope scope(ctx.arena());
  const Tensor staging = ctx.arena().Allocate(grads.dtype(), {num_elements});
  if (ctx.dry_run()) return absl::OkStatus();
  // Calls copy(in grads, in staging, bytes) for every run.
  const auto for_each_copy = [&](absl::FunctionRef<void(void*, void*, size_t)> copy) {
    int64_t packed = 0;
    ForEachRun(*parameters_, holders.size(), range, [&](const ShardRange& run) {
      const Tensor from = grads.Rows(run.begin - range.begin, run.end - range.begin);
      copy(from.raw(), staging.Rows(packed, packed + run.size()).raw(), from.num_bytes());
      packed += run.size();
    });
  };
  for_each_copy([](void* run, void* packed, size_t bytes) { std::memcpy(packed, run, bytes); });
  STRAKE_RETURN_IF_ERROR(holders.AllReduceSum(ctx, staging));
  for_each_copy([](void* run, void* packed, size_t bytes) { std::memcpy(run, packed, bytes); });
  return absl::OkStatus();
}

}  // namespace strake
