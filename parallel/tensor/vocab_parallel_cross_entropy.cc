#include "parallel/tensor/vocab_parallel_cross_entropy.h"

#include "core/base/status_macros.h"
#include "core/ops/softmax_cross_entropy/softmax_cross_entropy.h"

namespace strake {

absl::Status VocabParallelCrossEntropyForward(const Context& ctx, const TensorParallel& tp,
                                              const VocabSlice& slice, const Tensor& logits,
                                              const Tensor& targets, Tensor loss, Tensor lse) {
  if (tp.size() == 1) {
    return SoftmaxCrossEntropyForward(ctx, logits, targets, slice.vocab_size, loss, lse);
  }
  const ActivationScope scope(ctx.arena());
  const int64_t n = logits.dim(0);
  const Tensor max = ctx.arena().Allocate(SoftmaxMaxDType(logits.dtype()), {n});
  const Tensor sums = ctx.arena().Allocate(AccumulationDType(logits.dtype()), {2, n});
  STRAKE_RETURN_IF_ERROR(SoftmaxSliceMax(ctx, logits, slice, max));
  STRAKE_RETURN_IF_ERROR(tp.AllReduceMax(ctx, max));
  STRAKE_RETURN_IF_ERROR(SoftmaxSliceSums(ctx, logits, targets, slice, max, sums));
  STRAKE_RETURN_IF_ERROR(tp.AllReduceSum(ctx, sums));
  return SoftmaxCrossEntropyFromSums(ctx, targets, max, sums, loss, lse);
}

absl::Status VocabParallelCrossEntropyForwardBackward(const Context& ctx, const TensorParallel& tp,
                                                      const VocabSlice& slice,
                                                      const Tensor& targets, double scale,
                                                      double softcap, Tensor logits, Tensor loss) {
  const ActivationScope scope(ctx.arena());
  const Tensor lse = ctx.arena().Allocate(AccumulationDType(logits.dtype()), {logits.dim(0)});
  if (tp.size() == 1) {
    return SoftmaxCrossEntropyForwardBackward(ctx, targets, slice.vocab_size, scale, softcap,
                                              logits, loss, lse);
  }
  STRAKE_RETURN_IF_ERROR(
      VocabParallelCrossEntropyForward(ctx, tp, slice, logits, targets, loss, lse));
  Context backward = ctx;
  backward.set_pass(Pass::kBackward);
  return SoftmaxCrossEntropyBackward(backward, targets, lse, scale, softcap, slice, logits);
}

}  // namespace strake
