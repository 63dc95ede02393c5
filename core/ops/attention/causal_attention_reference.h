// Reference implementation of causal attention, row by row. See
// core/ops/attention/causal_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_REFERENCE_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/ops/attention/attention_shape.h"
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

template <typename Scalar>
using Column = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

// The keys that query i of a sequence sees are [first, i]. Where `positions` is not null, they
// begin no earlier than its document, in which it is at positions[i].
inline int64_t FirstSeenKey(const AttentionShape& shape, const int32_t* positions, int64_t i) {
  const int64_t first = shape.FirstKey(i);
  return positions == nullptr ? first : std::max(first, i - positions[i]);
}

// The scores of one query q [head_dim] against keys k. Of `shape`, here and below, only head_dim
// and what makes scores are read, and seq_len where it is the number of queries.
template <typename Scalar>
Column<Scalar> AttentionScores(const AttentionShape& shape, const Scalar* q,
                               const ConstMatrix<Scalar>& k) {
  using std::tanh;
  const Eigen::Map<const Column<Scalar>> query(q, shape.head_dim);
  const Column<Scalar> s = (k * query) * Scalar(shape.Scale());
  if (shape.score_softcap == 0) return s;
  const Scalar cap(shape.score_softcap);
  return s.unaryExpr([&](const Scalar& score) { return cap * tanh(score / cap); });
}

// y = softmax(scores of q and k)^T v for one query q [head_dim]; returns log(sum(exp(scores))).
template <typename Scalar>
Scalar AttendRow(const AttentionShape& shape, const Scalar* q, const ConstMatrix<Scalar>& k,
                 const ConstMatrix<Scalar>& v, Scalar* y) {
  using std::log;
  Column<Scalar> s = AttentionScores(shape, q, k);
  double shift = Real(s[0]);
  for (int64_t j = 1; j < s.size(); ++j) shift = std::max<double>(shift, Real(s[j]));
  s = (s.array() - Scalar(shift)).exp();
  const Scalar sum = s.sum();
  Eigen::Map<Column<Scalar>>(y, shape.head_dim) = v.transpose() * s / sum;
  return Scalar(shift) + log(sum);
}

// Computes one query head of one sequence. Rows [T, D] of q, k and v are `stride` elements apart,
// those of y `y_stride`; lse is [T].
template <typename Scalar>
struct CausalAttentionForwardArgs {
  const Scalar *q, *k, *v;
  int64_t stride;
  AttentionShape shape;
  Scalar* y;
  int64_t y_stride;
  Scalar* lse;
  const int32_t* positions = nullptr;  // [T], of the sequence's documents
};
template <typename Scalar>
void CausalAttentionForward(const CausalAttentionForwardArgs<Scalar>& args) {
  const AttentionShape& shape = args.shape;
  for (int64_t i = 0; i < shape.seq_len; ++i) {
    const int64_t first = FirstSeenKey(shape, args.positions, i), count = i + 1 - first;
    const int64_t at = first * args.stride;
    args.lse[i] = AttendRow(
        shape, args.q + i * args.stride, HeadRows(args.k + at, count, shape.head_dim, args.stride),
        HeadRows(args.v + at, count, shape.head_dim, args.stride), args.y + i * args.y_stride);
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
  AttentionShape shape;
  Scalar *dq, *dk, *dv;
  const int32_t* positions = nullptr;
};

// dq =; dk and dv +=, because the heads of a group share them. a is the scale, c the cap.
//   dp[i,j] = dy[i] . v[j],  ds[i,j] = p[i,j] (dp[i,j] - dy[i] . y[i]) a (1 - (s[i,j] / c)^2),
//   dq[i] = sum_j ds[i,j] k[j],  dk[j] += ds[i,j] q[i],  dv[j] += p[i,j] dy[i]
template <typename Scalar>
void CausalAttentionBackward(const CausalAttentionBackwardArgs<Scalar>& args) {
  using Row = Eigen::Map<const Column<Scalar>>;
  const AttentionShape& shape = args.shape;
  const int64_t dim = shape.head_dim;
  for (int64_t i = 0; i < shape.seq_len; ++i) {
    const int64_t first = FirstSeenKey(shape, args.positions, i), count = i + 1 - first;
    const int64_t at = first * args.stride;
    const auto keys = HeadRows(args.k + at, count, dim, args.stride);
    const auto values = HeadRows(args.v + at, count, dim, args.stride);
    const Row query(args.q + i * args.stride, dim);
    const Row dy_row(args.dy + i * args.y_stride, dim), y_row(args.y + i * args.y_stride, dim);
    const Column<Scalar> s = AttentionScores(shape, args.q + i * args.stride, keys);
    const Column<Scalar> p = (s.array() - args.lse[i]).exp();
    const Scalar mean = dy_row.cwiseProduct(y_row).sum();
    Column<Scalar> ds = p.array() * ((values * dy_row).array() - mean) * Scalar(shape.Scale());
    if (shape.score_softcap != 0) {
      ds.array() *= Scalar(1) - (s.array() / Scalar(shape.score_softcap)).square();
    }
    Eigen::Map<Column<Scalar>>(args.dq + i * args.stride, dim) = keys.transpose() * ds;
    HeadRows(args.dk + at, count, dim, args.stride) += ds * query.transpose();
    HeadRows(args.dv + at, count, dim, args.stride) += p * dy_row.transpose();
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_REFERENCE_H_
