// Softmax cross-entropy of logits against one target per row, without a second copy of the logits.
//
//   lse[n]  = log sum_v exp(logits[n,v])
//   loss[n] = lse[n] - logits[n, target[n]]                     in nats; 0 without a target
//
// N rows, V the vocabulary size, R columns: the part of the vocabulary that `slice` names. dtypes:
// targets i32; the other tensors f32; bf16 logits with all others in f32; f64 and c128 on the
// reference path. There all but the targets share one dtype, except `max`, which is
// SoftmaxMaxDType() of the logits'.
//
// A target of kNoTarget is none: loss and gradient of its row are exactly 0, even where its logits
// are infinite or NaN. Its lse and sums are of no use, but do not depend on the target either.
//
// Any other target outside [0, V) is an error, whichever slice the call is for. On the CPU the call
// returns CheckTargets()'s error and writes nothing. On CUDA nothing waits for a kernel to report
// it, so the caller must check targets on the host: an unchecked invalid target makes its row of
// loss, sums and gradient NaN.
//
// Over slices of the vocabulary, one per rank, with element-wise collectives of N and 2 N numbers:
//
//   max  = the maximum over ranks of SoftmaxSliceMax()
//   sums = the sum over ranks of SoftmaxSliceSums()
//   SoftmaxCrossEntropyFromSums()                               loss and lse, on every rank
//
// Where the logits are y = c tanh(x / c), the results of core/ops/softcap, the functions that make
// gradients take c as `softcap`, and give the gradient of x: times 1 - (y / c)^2. A softcap of 0
// means none.
//
// Source: Shoeybi et al., "Megatron-LM", 2019, section 3 (the fused parallel cross-entropy).
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_H_

#include "absl/status/status.h"
#include "core/base/dtype.h"
#include "core/base/no_target.h"  // IWYU pragma: export
#include "core/device/context.h"
#include "core/ops/vocab_slice.h"
#include "core/tensor/tensor.h"

namespace strake {

// Returns InvalidArgument, naming row and value, for the first target that is neither in
// [0, vocab_size) nor kNoTarget. The targets are i32, in host memory.
absl::Status CheckTargets(const Tensor& targets, int64_t vocab_size);

// The whole vocabulary in one pass: loss = [N], lse = [N], from logits [N, R] and targets [N]. The
// first V = `vocab_size` columns of logits are tokens, the others padding.
absl::Status SoftmaxCrossEntropyForward(const Context& ctx, const Tensor& logits,
                                        const Tensor& targets, int64_t vocab_size, Tensor loss,
                                        Tensor lse);

// SoftmaxCrossEntropyForward() and SoftmaxCrossEntropyBackward() of the whole vocabulary, in place:
// loss = [N], lse = [N] and logits [N, R] = the gradient of scale * sum(loss), from logits and
// targets [N]. Gives the bits of the two calls, in one pass over memory on CUDA.
absl::Status SoftmaxCrossEntropyForwardBackward(const Context& ctx, const Tensor& targets,
                                                int64_t vocab_size, double scale, double softcap,
                                                Tensor logits, Tensor loss, Tensor lse);

// The dtype of a maximum of logits: real, since complex numbers have no order.
inline DType SoftmaxMaxDType(DType logits) {
  return logits == DType::kC128 ? DType::kF64 : AccumulationDType(logits);
}

// max = [N], the largest real part among the slice's tokens, or -infinity if the slice has no
// tokens; from logits [N, R].
absl::Status SoftmaxSliceMax(const Context& ctx, const Tensor& logits, const VocabSlice& slice,
                             Tensor max);

// sums = [2, N], from logits [N, R], targets [N] and the whole vocabulary's max [N]:
//   sums[0,n] = sum of exp(logits[n,v] - max[n]) over the slice's tokens
//   sums[1,n] = logits[n, target[n]] - max[n], or 0 where another slice has the target, or there is
//               none
absl::Status SoftmaxSliceSums(const Context& ctx, const Tensor& logits, const Tensor& targets,
                              const VocabSlice& slice, const Tensor& max, Tensor sums);

// loss = [N], lse = [N], from targets [N] and the whole vocabulary's max [N] and sums [2, N].
absl::Status SoftmaxCrossEntropyFromSums(const Context& ctx, const Tensor& targets,
                                         const Tensor& max, const Tensor& sums, Tensor loss,
                                         Tensor lse);

// In place: logits [N, R] = scale * (softmax(logits) - onehot(target)), times 1 - (logits / c)^2 of
// a softcap c: the slice's columns of the gradient of scale * sum(loss), from the whole
// vocabulary's lse [N]. Padding gets exactly 0. For the mean over a global batch, scale is 1 / (its
// number of targets).
absl::Status SoftmaxCrossEntropyBackward(const Context& ctx, const Tensor& targets,
                                         const Tensor& lse, double scale, double softcap,
                                         const VocabSlice& slice, Tensor logits);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_H_
