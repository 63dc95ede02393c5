// Reference implementation of causal attention, row by row. See
// core/ops/attention/causal_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_REFERENCE_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

// One head's rows [count, head_dim], with starts `stride` elements apart.
template <typename Scalar>
ConstMatrix<Scalar> HeadRows(const Scalar* data, int64_t count, int64_t head_dim, int64_t stride) {
  return ConstMatrix<Scalar>(data, count, head_dim, Eigen::OuterStride<>(stride));
}
template <typename Scalar>
Matrix<Scalar> HeadRows(Scalar* data, int64_t count, int64_t head_dim, int64_t stride) {
  return Matrix<Scalar>(data, count, head_dim, Eigen::OuterStride<>(stride));
}

// y = softmax(k q / sqrt(head_dim))^T v for one query q [head_dim]; returns log(sum(exp(s))).
template <typename Scalar>
Scalar AttendRow(const Scalar* q, const ConstMatrix<Scalar>& k, const ConstMatrix<Scalar>& v,
                 Scalar* y) {
  using std::log;
  using std::sqrt;
  using Column = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
  const int64_t head_dim = k.cols();
  const Eigen::Map<const Column> query(q, head_dim);
  Column s = (k * query) / Scalar(sqrt(static_cast<double>(head_dim)));
  double shift = Real(s[0]);
  for (int64_t j = 1; j < s.size(); ++j) shift = std::max<double>(shift, Real(s[j]));
  s = (s.array() - Scalar(shift)).exp();
  const Scalar sum = s.sum();
  Eigen::Map<Column>(y, head_dim) = v.transpose() * s / sum;
  return Scalar(shift) + log(sum);
}

// Computes one query head of one sequence. Rows [T, D] of q, k and v are `stride` elements apart,
// those of y `y_stride`; lse is [T].
template <typename Scalar>
struct CausalAttentionForwardArgs {
  const Scalar *q, *k, *v;
  int64_t stride, seq_len, head_dim;
  Scalar* y;
  int64_t y_stride;
  Scalar* lse;
};
template <typename Scalar>
void CausalAttentionForward(const CausalAttentionForwardArgs<Scalar>& args) {
  for (int64_t i = 0; i < args.seq_len; ++i) {
    args.lse[i] =
        AttendRow(args.q + i * args.stride, HeadRows(args.k, i + 1, args.head_dim, args.stride),
                  HeadRows(args.v, i + 1, args.head_dim, args.stride), args.y + i * args.y_stride);
  }
}

// The backward pass of that. Rows of dy are laid out like those of y; rows of dq, dk and dv like
// those of q, k and v.
template <typename Scalar>
struct CausalAttentionBackwardArgs {
  const Scalar *dy, *q, *k, *v;
  int64_t stride;
  const Scalar* y;
  int64_t y_stride;
  const Scalar* lse;
  int64_t seq_len, head_dim;
  Scalar *dq, *dk, *dv;
};

// dq =; dk and dv +=, because the heads of a group share them.
//   dp[i,j] = dy[i] . v[j],  ds[i,j] = p[i,j] (dp[i,j] - dy[i] . y[i]),
//   dq[i] = sum_j ds[i,j] k[j] / sqrt(D),  dk[j] += ds[i,j] q[i] / sqrt(D),  dv[j] += p[i,j] dy[i]
template <typename Scalar>
void CausalAttentionBackward(const CausalAttentionBackwardArgs<Scalar>& args) {
  using std::sqrt;
  using Column = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
  const Scalar scale = Scalar(1 / sqrt(static_cast<double>(args.head_dim)));
  for (int64_t i = 0; i < args.seq_len; ++i) {
    const auto keys = HeadRows(args.k, i + 1, args.head_dim, args.stride);
    const auto values = HeadRows(args.v, i + 1, args.head_dim, args.stride);
    const Eigen::Map<const Column> query(args.q + i * args.stride, args.head_dim);
    const Eigen::Map<const Column> dy_row(args.dy + i * args.y_stride, args.head_dim);
    const Eigen::Map<const Column> y_row(args.y + i * args.y_stride, args.head_dim);
    const Column p = ((keys * query).array() * scale - args.lse[i]).exp();
    const Scalar mean = dy_row.cwiseProduct(y_row).sum();
    const Column ds = p.array() * ((values * dy_row).array() - mean) * scale;
    Eigen::Map<Column>(args.dq + i * args.stride, args.head_dim) = keys.transpose() * ds;
    HeadRows(args.dk, i + 1, args.head_dim, args.stride) += ds * query.transpose();
    HeadRows(args.dv, i + 1, args.head_dim, args.stride) += p * dy_row.transpose();
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_REFERENCE_H_
