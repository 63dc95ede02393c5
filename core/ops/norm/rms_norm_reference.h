// RMSNorm by definition. See core/ops/norm/rms_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_RMS_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_NORM_RMS_NORM_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "core/ops/reference_eigen.h"
#include "core/ops/residual_add/residual_add_reference.h"

namespace strake::reference {

// `residual` may be null: then sum is x, and not written.
template <typename Scalar>
void RmsNormForward(const Scalar* x, const Scalar* residual, const Scalar* weight, int64_t rows,
                    int64_t columns, double eps, Scalar* sum, Scalar* y, Scalar* rstd) {
  using std::sqrt;
  const ConstArray<Scalar> w(weight, columns);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * columns;
    if (residual != nullptr) ResidualAddForward(x + at, residual + at, columns, sum + at);
    const ConstArray<Scalar> row((residual != nullptr ? sum : x) + at, columns);
    rstd[n] = Scalar(1) / sqrt((row * row).sum() / Scalar(columns) + Scalar(eps));
    Array<Scalar>(y + at, columns) = row * rstd[n] * w;
  }
}

// dx of rows [0, rows).
template <typename Scalar>
void RmsNormBackwardInput(const Scalar* dy, const Scalar* x, const Scalar* weight,
                          const Scalar* rstd, int64_t rows, int64_t columns, bool accumulate_dx,
                          Scalar* dx) {
  const ConstArray<Scalar> w(weight, columns);
  for (int64_t n = 0; n < rows; ++n) {
    const ConstArray<Scalar> dy_row(dy + n * columns, columns);
    const ConstArray<Scalar> row(x + n * columns, columns);
    const Scalar mean = (dy_row * w * row).sum() * rstd[n] / Scalar(columns);
    Array<Scalar> dx_row(dx + n * columns, columns);
    const auto value = rstd[n] * (dy_row * w - row * (rstd[n] * mean));
    if (accumulate_dx) {
      dx_row += value;
    } else {
      dx_row = value;
    }
  }
}

// dweight of columns [begin, end), over all rows.
template <typename Scalar>
void RmsNormBackwardWeight(const Scalar* dy, const Scalar* x, const Scalar* rstd, int64_t rows,
                           int64_t columns, int64_t begin, int64_t end, Scalar* dweight) {
  Array<Scalar> sum(dweight + begin, end - begin);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * columns + begin;
    sum += ConstArray<Scalar>(dy + at, end - begin) * ConstArray<Scalar>(x + at, end - begin) *
           rstd[n];
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_NORM_RMS_NORM_REFERENCE_H_
