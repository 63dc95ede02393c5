// Reference implementation of softmax cross-entropy. See
// core/ops/softmax_cross_entropy/softmax_cross_entropy.h.
//
// In the forms for a slice, `columns` is the length of a row: its first `num_tokens` columns are
// tokens from `first` on, the rest padding.
#ifndef STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_REFERENCE_H_
#define STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_REFERENCE_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "core/base/no_target.h"
#include "core/ops/reference_eigen.h"
#include "core/ops/softmax_cross_entropy/softmax_slice_sums_args.h"

namespace strake::reference {

template <typename Scalar>
using RealOf = typename Eigen::NumTraits<Scalar>::Real;

template <typename Scalar>
void SoftmaxCrossEntropyForward(const Scalar* logits, const int32_t* targets, int64_t rows,
                                int64_t columns, int64_t vocab_size, Scalar* loss, Scalar* lse) {
  using std::log;
  for (int64_t n = 0; n < rows; ++n) {
    const ConstArray<Scalar> row(logits + n * columns, vocab_size);
    const Scalar max(row.real().maxCoeff());
    const Scalar log_sum = log((row - max).exp().sum());
    lse[n] = max + log_sum;
    // Avoids lse - logit: both may be large, and so may be their rounding errors.
    loss[n] = targets[n] == kNoTarget ? Scalar(0) : log_sum - (row[targets[n]] - max);
  }
}

template <typename Scalar>
void SoftmaxSliceMax(const Scalar* logits, int64_t rows, int64_t columns, int64_t num_tokens,
                     RealOf<Scalar>* max) {
  for (int64_t n = 0; n < rows; ++n) {
    max[n] = num_tokens == 0
                 ? -std::numeric_limits<RealOf<Scalar>>::infinity()
                 : ConstArray<Scalar>(logits + n * columns, num_tokens).real().maxCoeff();
  }
}

// Computes rows [begin, end).
template <typename Scalar>
void SoftmaxSliceSums(const SoftmaxSliceSumsArgs<Scalar, Scalar, RealOf<Scalar>>& args,
                      int64_t begin, int64_t end) {
  const int64_t num_tokens = args.slice.NumTokens(args.columns);
  Scalar *const exp_sum = args.sums, *const shifted_target = args.sums + args.rows;
  for (int64_t n = begin; n < end; ++n) {
    const ConstArray<Scalar> row(args.logits + n * args.columns, num_tokens);
    const Scalar shift(args.max[n]);
    const int64_t target = int64_t{args.targets[n]} - args.slice.begin;
    exp_sum[n] = (row - shift).exp().sum();
    shifted_target[n] = target >= 0 && target < num_tokens ? row[target] - shift : Scalar(0);
  }
}

template <typename Scalar>
void SoftmaxCrossEntropyFromSums(const int32_t* targets, const RealOf<Scalar>* max,
                                 const Scalar* exp_sum, const Scalar* shifted_target, int64_t rows,
                                 Scalar* loss, Scalar* lse) {
  using std::log;
  for (int64_t n = 0; n < rows; ++n) {
    const Scalar log_sum = log(exp_sum[n]);
    lse[n] = Scalar(max[n]) + log_sum;
    loss[n] = targets[n] == kNoTarget ? Scalar(0) : log_sum - shifted_target[n];
  }
}

template <typename Scalar>
void SoftmaxCrossEntropyBackward(const int32_t* targets, const Scalar* lse, int64_t rows,
                                 int64_t columns, int64_t first, int64_t num_tokens, double scale,
                                 double softcap, Scalar* logits) {
  Eigen::Array<Scalar, Eigen::Dynamic, 1> slope;
  for (int64_t n = 0; n < rows; ++n) {
    if (targets[n] == kNoTarget) {
      Array<Scalar>(logits + n * columns, columns).setZero();
      continue;
    }
    Array<Scalar> row(logits + n * columns, num_tokens);
    if (softcap != 0) slope = Scalar(1) - (row / Scalar(softcap)).square();
    row = (row - lse[n]).exp() * Scalar(scale);
    const int64_t target = targets[n] - first;
    if (target >= 0 && target < num_tokens) row[target] -= Scalar(scale);
    if (softcap != 0) row *= slope;
    Array<Scalar>(row.data() + num_tokens, columns - num_tokens).setZero();
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_SOFTMAX_CROSS_ENTROPY_SOFTMAX_CROSS_ENTROPY_REFERENCE_H_
