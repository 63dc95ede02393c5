// Softmax cross-entropy by definition. See core/ops/softmax_cross_entropy.h.
#ifndef STRAKE_CORE_OPS_REFERENCE_SOFTMAX_CROSS_ENTROPY_H_
#define STRAKE_CORE_OPS_REFERENCE_SOFTMAX_CROSS_ENTROPY_H_

#include <cmath>
#include <cstdint>

#include "core/ops/reference/eigen.h"

namespace strake::reference {

template <typename Scalar>
void SoftmaxCrossEntropyForward(const Scalar* logits, const int32_t* targets, int64_t rows,
                                int64_t columns, Scalar* loss, Scalar* lse) {
  using std::log;
  for (int64_t n = 0; n < rows; ++n) {
    const ConstArray<Scalar> row(logits + n * columns, columns);
    const Scalar max(row.real().maxCoeff());
    const Scalar log_sum = log((row - max).exp().sum());
    lse[n] = max + log_sum;
    // Not lse - logit: both may be large, and their rounding errors with them.
    loss[n] = log_sum - (row[targets[n]] - max);
  }
}

template <typename Scalar>
void SoftmaxCrossEntropyBackward(const int32_t* targets, const Scalar* lse, int64_t rows,
                                 int64_t columns, double scale, Scalar* logits) {
  for (int64_t n = 0; n < rows; ++n) {
    Array<Scalar> row(logits + n * columns, columns);
    row = (row - lse[n]).exp() * Scalar(scale);
    row[targets[n]] -= Scalar(scale);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_REFERENCE_SOFTMAX_CROSS_ENTROPY_H_
