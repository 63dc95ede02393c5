#include "parallel/tensor/vocab_parallel_cross_entropy.h"

#include "core/base/status_macros.h"
#include "core/ops/softmax_cross_entropy.h"

namespace strake {

absl::Status VocabParallelCrossEntropyForward(const Context& ctx, const TensorParallel& tp,
                                              const VocabSlice& slice, const Tensor& logits,
                                              const Tensor& targets, Tensor loss, Tensor lse) {
  if (tp.size() == 1 && logits.dim(1) == slice.vocab_size) {
    return SoftmaxCrossEntropyForward(ctx, logits, targets, loss, lse);
  }
  const ActivationScope scope(ctx.arena());
  const int64_t n = logits.dim(0);
  const Tensor max = ctx.arena().Allocate(SoftmaxMaxDType(logits.dtype()), {n});
  const Tensor sums = ctx.arena().Allocate(AccumulationDType(logits.dtype()), {2, n});
  STRAKE_RETURN_IF_ERROR(SoftmaxSliceMax(ctx, logits, slice, max));
  STRAKE_RETURN_IF_ERROR(tp.AllReduceMax(ctx, max));
  STRAKE_RETURN_IF_ERROR(SoftmaxSliceSums(ctx, logits, targets, slice, max, sums));
  STRAKE_RETURN_IF_ERROR(tp.AllReduceSum(ctx, sums));
  return SoftmaxCrossEntropyFromSums(ctx, max, sums, loss, lse);
}

}  // namespace strake
