// Reference implementation of QkNorm. See core/ops/qk_norm/qk_norm.h.
#ifndef STRAKE_CORE_OPS_QK_NORM_QK_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_QK_NORM_QK_NORM_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "core/ops/qk_norm/qk_norm_args.h"
#include "core/ops/reference_eigen.h"

namespace strake::reference {

// Computes rows [begin, end).
template <typename Scalar>
void QkNormForward(const QkNormForwardArgs<Scalar, Scalar>& args, int64_t begin, int64_t end) {
  using std::sqrt;
  const Scalar offset(args.weight_offset), eps(args.eps);
  for (int64_t n = begin; n < end; ++n) {
    for (const QkNormPart<Scalar>& part : args.parts) {
      const int64_t size = part.group_columns;
      const ConstArray<Scalar> w(part.weight, size);
      for (int64_t g = 0; g < part.num_groups; ++g) {
        const int64_t column = part.first_column + g * size;
        const int64_t group = n * args.num_groups + part.first_group + g;
        Array<Scalar> x(args.qkv + n * args.columns + column, size);
        if (args.raw != nullptr) {
          Array<Scalar>(args.raw + n * args.num_normalized + column, size) = x;
        }
        const Scalar squares = args.sums != nullptr ? args.sums[group] : (x * x).sum();
        const Scalar rstd = Scalar(1) / sqrt(squares / Scalar(args.num_ranks * size) + eps);
        x = x * rstd * (w + offset);
        args.rstd[group] = rstd;
      }
    }
  }
}

// Computes the gradient of x for rows [begin, end).
template <typename Scalar>
void QkNormBackwardInput(const QkNormBackwardArgs<Scalar, Scalar>& args, int64_t begin,
                         int64_t end) {
  const Scalar offset(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    for (const QkNormPart<Scalar>& part : args.parts) {
      const int64_t size = part.group_columns;
      const ConstArray<Scalar> w(part.weight, size);
      for (int64_t g = 0; g < part.num_groups; ++g) {
        const int64_t column = part.first_column + g * size;
        const int64_t group = n * args.num_groups + part.first_group + g;
        Array<Scalar> dy(args.dqkv + n * args.columns + column, size);
        const ConstArray<Scalar> x(args.raw + n * args.num_normalized + column, size);
        const Scalar rstd = args.rstd[group];
        const Scalar sum = args.sums != nullptr ? args.sums[group] : (dy * (w + offset) * x).sum();
        const Scalar mean = sum * rstd / Scalar(args.num_ranks * size);
        dy = rstd * (dy * (w + offset) - x * (rstd * mean));
      }
    }
  }
}

// Computes columns [begin, end) of the gradient of a part's weight, over all rows.
template <typename Scalar>
void QkNormBackwardWeight(const QkNormBackwardArgs<Scalar, Scalar>& args, int part_index,
                          int64_t begin, int64_t end) {
  const QkNormPart<Scalar>& part = args.parts[part_index];
  const int64_t size = end - begin;
  Array<Scalar> to(args.dweights[part_index] + begin, size);
  for (int64_t n = 0; n < args.rows; ++n) {
    for (int64_t g = 0; g < part.num_groups; ++g) {
      const int64_t column = part.first_column + g * part.group_columns + begin;
      to += ConstArray<Scalar>(args.dqkv + n * args.columns + column, size) *
            ConstArray<Scalar>(args.raw + n * args.num_normalized + column, size) *
            args.rstd[n * args.num_groups + part.first_group + g];
    }
  }
}

// Computes rows [begin, end).
template <typename Scalar>
void QkNormSums(const QkNormSumsArgs<Scalar, Scalar>& args, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    for (int p = 0; p < 2; ++p) {
      const QkNormPart<Scalar>& part = args.parts[p];
      const int64_t size = part.group_columns;
      const ConstArray<Scalar> a(args.a + n * args.a_columns + part.first_column, size);
      Scalar& sum = args.sums[2 * n + p];
      if (args.b == nullptr) {
        sum = (a * a).sum();
        continue;
      }
      const ConstArray<Scalar> b(args.b + n * args.b_columns + part.first_column, size);
      const ConstArray<Scalar> w(part.weight, size);
      sum = (a * (w + Scalar(args.weight_offset)) * b).sum();
    }
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_QK_NORM_QK_NORM_REFERENCE_H_
