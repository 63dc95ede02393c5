// Softmax cross-entropy of logits whose vocabulary is sharded over T ranks: no rank holds a whole
// row.
//
//   N tokens, V vocabulary padded to P; rank t holds logits [N, P/T]
//   1. max[n]    over the rank's columns                            all-reduce max [N]
//   2. sums[2,n] of exp(logit - max), and target logit - max or 0   all-reduce sum [2, N]
//   3. loss[n] = log(sum) - (target logit - max),  lse[n] = max + log(sum);  a loss of 0 without a
//      target
//
// The backward pass communicates nothing: it is SoftmaxCrossEntropyBackward on the rank's slice.
// One rank without padding uses the plain op.
//
// dtypes: f32; bf16, with all but the logits in f32; f64 and c128 on the reference path
// (whose max is f64). Source: Shoeybi et al., "Megatron-LM", 2019, section 3 (parallel
// cross-entropy).
#ifndef STRAKE_PARALLEL_TENSOR_VOCAB_PARALLEL_CROSS_ENTROPY_H_
#define STRAKE_PARALLEL_TENSOR_VOCAB_PARALLEL_CROSS_ENTROPY_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"
#include "parallel/tensor/tensor_parallel.h"

namespace strake {

// Computes loss = [N] and lse = [N], the same on every rank, from logits [N, P/T] of `slice` and
// targets [N] (i32). InvalidArgument, on every rank, for a target that is neither in the
// vocabulary nor kNoTarget.
absl::Status VocabParallelCrossEntropyForward(const Context& ctx, const TensorParallel& tp,
                                              const VocabSlice& slice, const Tensor& logits,
                                              const Tensor& targets, Tensor loss, Tensor lse);

// Runs forward and backward in place: loss = [N], and logits [N, P/T] = scale * (softmax(logits) -
// onehot(target)), the gradient of scale * sum(loss). With a softcap other than 0, the gradient is
// that of the logits before it (core/ops/softmax_cross_entropy). The same errors.
absl::Status VocabParallelCrossEntropyForwardBackward(const Context& ctx, const TensorParallel& tp,
                                                      const VocabSlice& slice,
                                                      const Tensor& targets, double scale,
                                                      double softcap, Tensor logits, Tensor loss);

}  // namespace strake

#endif  // STRAKE_PARALLEL_TENSOR_VOCAB_PARALLEL_CROSS_ENTROPY_H_
