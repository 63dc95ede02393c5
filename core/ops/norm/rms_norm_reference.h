// Reference implementation of RMSNorm. See core/ops/norm/rms_norm.h.
#ifndef STRAKE_CORE_OPS_NORM_RMS_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_NORM_RMS_NORM_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "core/ops/norm/rms_norm_args.h"
#include "core/ops/reference_eigen.h"
#include "core/ops/residual_add/residual_add_reference.h"

namespace strake::reference {

// Computes rows [begin, end).
template <typename Scalar>
void RmsNormForward(const RmsNormForwardArgs<Scalar, Scalar>& args, int64_t begin, int64_t end) {
  using std::sqrt;
  const ConstArray<Scalar> w(args.weight, args.columns);
  const Scalar offset(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    const int64_t at = n * args.columns;
    if (args.residual != nullptr) {
      ResidualAddForward(args.x + at, args.residual + at, args.columns, args.sum + at);
    }
    const ConstArray<Scalar> row((args.residual != nullptr ? args.sum : args.x) + at, args.columns);
    args.rstd[n] = Scalar(1) / sqrt((row * row).sum() / Scalar(args.columns) + Scalar(args.eps));
    Array<Scalar>(args.y + at, args.columns) = row * args.rstd[n] * (w + offset);
  }
}

// Computes dx for rows [begin, end).
template <typename Scalar>
void RmsNormBackwardInput(const RmsNormBackwardArgs<Scalar, Scalar>& args, int64_t begin,
                          int64_t end) {
  const ConstArray<Scalar> w(args.weight, args.columns);
  const Scalar offset(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    const ConstArray<Scalar> dy_row(args.dy + n * args.columns, args.columns);
    const ConstArray<Scalar> row(args.x + n * args.columns, args.columns);
    const Scalar mean = (dy_row * (w + offset) * row).sum() * args.rstd[n] / Scalar(args.columns);
    Array<Scalar> dx_row(args.dx + n * args.columns, args.columns);
    const auto value = args.rstd[n] * (dy_row * (w + offset) - row * (args.rstd[n] * mean));
    if (args.accumulate_dx) {
      dx_row += value;
    } else {
      dx_row = value;
    }
  }
}

// Computes columns [begin, end) of dweight, over all rows.
template <typename Scalar>
void RmsNormBackwardWeight(const RmsNormBackwardArgs<Scalar, Scalar>& args, int64_t begin,
                           int64_t end) {
  Array<Scalar> to(args.dweight + begin, end - begin);
  for (int64_t n = 0; n < args.rows; ++n) {
    const int64_t at = n * args.columns + begin;
    to += ConstArray<Scalar>(args.dy + at, end - begin) *
          ConstArray<Scalar>(args.x + at, end - begin) * args.rstd[n];
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_NORM_RMS_NORM_REFERENCE_H_
