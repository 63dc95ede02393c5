// Reference implementation of the bias. See core/ops/bias_add/bias_add.h.
#ifndef STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_REFERENCE_H_
#define STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_REFERENCE_H_

#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

template <typename Scalar>
void BiasAddForward(const Scalar* x, const Scalar* bias, int64_t rows, int64_t columns, Scalar* y) {
  const ConstArray<Scalar> b(bias, columns);
  for (int64_t n = 0; n < rows; ++n) {
    Array<Scalar>(y + n * columns, columns) = ConstArray<Scalar>(x + n * columns, columns) + b;
  }
}

// Computes columns [begin, end) of dbias, over all rows.
template <typename Scalar>
void BiasAddBackward(const Scalar* dy, int64_t rows, int64_t columns, int64_t begin, int64_t end,
                     Scalar* dbias) {
  Array<Scalar> sum(dbias + begin, end - begin);
  for (int64_t n = 0; n < rows; ++n) {
    sum += ConstArray<Scalar>(dy + n * columns + begin, end - begin);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_BIAS_ADD_BIAS_ADD_REFERENCE_H_
