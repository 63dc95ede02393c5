// Softmax cross-entropy of logits against one target per row, without a second copy of the logits.
//
//   lse[n]  = log sum_v exp(logits[n,v])
//   loss[n] = lse[n] - logits[n, target[n]]                     in nats
//
// N rows, V columns (the vocabulary). dtypes: targets i32; the others f32, or f64 and c128 on the
// reference path; all of these share one.
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

// loss = [N], lse = [N], from logits [N, V] and targets [N]. InvalidArgument, naming row and value,
// for a target outside [0, V).
absl::Status SoftmaxCrossEntropyForward(const Context& ctx, const Tensor& logits,
                                        const Tensor& targets, Tensor loss, Tensor lse);

// In place: logits [N, V] = scale * (softmax(logits) - onehot(target)), the gradient of
// scale * sum(loss), from the forward pass's lse [N]. For the mean over a global batch, scale is
// 1 / (its number of tokens).
absl::Status SoftmaxCrossEntropyBackward(const Context& ctx, const Tensor& targets,
                                         const Tensor& lse, double scale, Tensor logits);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_H_
