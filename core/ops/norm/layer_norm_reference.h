// Reference implementation of LayerNorm. See core/ops/norm/layer_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_LAYER_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_NORM_LAYER_NORM_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "core/ops/norm/layer_norm_args.h"
#include "core/ops/reference_eigen.h"
#include "core/ops/residual_add/residual_add_reference.h"

namespace strake::reference {

// Computes rows [begin, end).
template <typename Scalar>
void LayerNormForward(const LayerNormForwardArgs<Scalar, Scalar>& args, int64_t begin,
                      int64_t end) {
  using std::sqrt;
  const ConstArray<Scalar> w(args.weight, args.columns), b(args.bias, args.columns);
  for (int64_t n = begin; n < end; ++n) {
    const int64_t at = n * args.columns;
    if (args.residual != nullptr) {
      ResidualAddForward(args.x + at, args.residual + at, args.columns, args.sum + at);
    }
    const ConstArray<Scalar> row((args.residual != nullptr ? args.sum : args.x) + at, args.columns);
    args.mean[n] = row.sum() / Scalar(args.columns);
    const Scalar variance = (row - args.mean[n]).square().sum() / Scalar(args.columns);
    args.rstd[n] = Scalar(1) / sqrt(variance + Scalar(args.eps));
    Array<Scalar>(args.y + at, args.columns) = (row - args.mean[n]) * args.rstd[n] * w + b;
  }
}

// Computes dx for rows [begin, end).
template <typename Scalar>
void LayerNormBackwardInput(const LayerNormBackwardArgs<Scalar, Scalar>& args, int64_t begin,
                            int64_t end) {
  const ConstArray<Scalar> w(args.weight, args.columns);
  for (int64_t n = begin; n < end; ++n) {
    const ConstArray<Scalar> dy_row(args.dy + n * args.columns, args.columns);
    const ConstArray<Scalar> row(args.x + n * args.columns, args.columns);
    const auto g = dy_row * w;
    const auto xhat = (row - args.mean[n]) * args.rstd[n];
    const Scalar mean_g = g.sum() / Scalar(args.columns);
    const Scalar mean_g_xhat = (g * xhat).sum() / Scalar(args.columns);
    Array<Scalar> dx_row(args.dx + n * args.columns, args.columns);
    const auto value = args.rstd[n] * (g - mean_g - xhat * mean_g_xhat);
    if (args.accumulate_dx) {
      dx_row += value;
    } else {
      dx_row = value;
    }
  }
}

// Computes columns [begin, end) of dweight and dbias, over all rows.
template <typename Scalar>
void LayerNormBackwardWeight(const LayerNormBackwardArgs<Scalar, Scalar>& args, int64_t begin,
                             int64_t end) {
  Array<Scalar> dw(args.dweight + begin, end - begin), db(args.dbias + begin, end - begin);
  for (int64_t n = 0; n < args.rows; ++n) {
    const int64_t at = n * args.columns + begin;
    const ConstArray<Scalar> dy_part(args.dy + at, end - begin), x_part(args.x + at, end - begin);
    dw += dy_part * (x_part - args.mean[n]) * args.rstd[n];
    db += dy_part;
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_NORM_LAYER_NORM_REFERENCE_H_
