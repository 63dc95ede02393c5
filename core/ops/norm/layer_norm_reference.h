// LayerNorm by definition. See core/ops/norm/layer_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "core/ops/reference_eigen.h"
#include "core/ops/residual_add/residual_add_reference.h"

namespace strake::reference {

// `residual` may be null: then sum is x, and not written.
template <typename Scalar>
void LayerNormForward(const Scalar* x, const Scalar* residual, const Scalar* weight,
                      const Scalar* bias, int64_t rows, int64_t columns, double eps, Scalar* sum,
                      Scalar* y, Scalar* mean, Scalar* rstd) {
  using std::sqrt;
  const ConstArray<Scalar> w(weight, columns), b(bias, columns);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * columns;
    if (residual != nullptr) ResidualAddForward(x + at, residual + at, columns, sum + at);
    const ConstArray<Scalar> row((residual != nullptr ? sum : x) + at, columns);
    mean[n] = row.sum() / Scalar(columns);
    const Scalar variance = (row - mean[n]).square().sum() / Scalar(columns);
    rstd[n] = Scalar(1) / sqrt(variance + Scalar(eps));
    Array<Scalar>(y + at, columns) = (row - mean[n]) * rstd[n] * w + b;
  }
}

// dx of rows [0, rows).
template <typename Scalar>
void LayerNormBackwardInput(const Scalar* dy, const Scalar* x, const Scalar* weight,
                            const Scalar* mean, const Scalar* rstd, int64_t rows, int64_t columns,
                            bool accumulate_dx, Scalar* dx) {
  const ConstArray<Scalar> w(weight, columns);
  for (int64_t n = 0; n < rows; ++n) {
    const ConstArray<Scalar> dy_row(dy + n * columns, columns);
    const ConstArray<Scalar> row(x + n * columns, columns);
    const auto g = dy_row * w;
    const auto xhat = (row - mean[n]) * rstd[n];
    const Scalar mean_g = g.sum() / Scalar(columns);
    const Scalar mean_g_xhat = (g * xhat).sum() / Scalar(columns);
    Array<Scalar> dx_row(dx + n * columns, columns);
    const auto value = rstd[n] * (g - mean_g - xhat * mean_g_xhat);
    if (accumulate_dx) {
      dx_row += value;
    } else {
      dx_row = value;
    }
  }
}

// dweight and dbias of columns [begin, end), over all rows.
template <typename Scalar>
void LayerNormBackwardWeight(const Scalar* dy, const Scalar* x, const Scalar* mean,
                             const Scalar* rstd, int64_t rows, int64_t columns, int64_t begin,
                             int64_t end, Scalar* dweight, Scalar* dbias) {
  Array<Scalar> dw(dweight + begin, end - begin), db(dbias + begin, end - begin);
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * columns + begin;
    const ConstArray<Scalar> dy_part(dy + at, end - begin), x_part(x + at, end - begin);
    dw += dy_part * (x_part - mean[n]) * rstd[n];
    db += dy_part;
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_REFERENCE_H_
