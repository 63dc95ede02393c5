// Reference implementation of partial attention, row by row. See
// core/ops/attention/partial_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_REFERENCE_H_
#define STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/ops/attention/causal_attention_reference.h"
#include "core/ops/attention/partial_attention.h"

namespace strake::reference {

// One query head of one sequence, and its key/value head. Pointers are to the first row of the
// sequence.
template <typename Scalar>
struct PartialAttentionHead {
  const PartialAttention& part;
  const Scalar* q;
  int64_t q_stride;
  const Scalar *k, *v;
  int64_t kv_stride, y_stride;
  const int32_t* positions;  // [R] in documents, or null

  // The rows [first, first + count) of the keys that a query sees, a row of `part.queries`.
  struct Seen {
    int64_t first, count;
  };
  Seen KeysOf(int64_t query) const {
    const int64_t i = part.queries.position + query - part.queries.row;
    int64_t first = part.shape.FirstKey(i);
    if (positions != nullptr) first = std::max(first, i - positions[query]);
    const TokenSpan& keys = part.keys;
    first = std::max(first, keys.position);
    const int64_t end = std::min(i + 1, keys.position + keys.count);
    return {first - keys.position + keys.row, std::max<int64_t>(0, end - first)};
  }
  ConstMatrix<Scalar> Rows(const Scalar* of, const Seen& seen) const {
    return HeadRows(of + seen.first * kv_stride, seen.count, part.shape.head_dim, kv_stride);
  }
};

template <typename Scalar>
void PartialAttentionForward(const PartialAttentionHead<Scalar>& head, bool merge, Scalar* y,
                             Scalar* lse) {
  using std::exp;
  using std::log;
  const int64_t dim = head.part.shape.head_dim, begin = head.part.queries.row;
  std::vector<Scalar> z(dim);
  for (int64_t i = begin; i < begin + head.part.queries.count; ++i) {
    const auto seen = head.KeysOf(i);
    Scalar* const row = y + i * head.y_stride;
    if (!merge) {
      std::fill_n(row, dim, Scalar(0));
      lse[i] = Scalar(-INFINITY);
    }
    if (seen.count == 0) continue;
    const Scalar part = AttendRow(head.part.shape, head.q + i * head.q_stride,
                                  head.Rows(head.k, seen), head.Rows(head.v, seen), z.data());
    const Scalar shift(std::max<double>(Real(lse[i]), Real(part)));
    const Scalar before = std::isinf(Real(lse[i])) ? Scalar(0) : Scalar(exp(lse[i] - shift));
    const Scalar sum = before + exp(part - shift);
    for (int64_t d = 0; d < dim; ++d) {
      row[d] = (before * row[d] + exp(part - shift) * z[d]) / sum;
    }
    lse[i] = shift + log(sum);
  }
}

// dq, dk and dv +=, with the layouts of y, k and v.
template <typename Scalar>
void PartialAttentionBackward(const PartialAttentionHead<Scalar>& head, const Scalar* dy,
                              const Scalar* y, const Scalar* lse, Scalar* dq, Scalar* dk,
                              Scalar* dv) {
  using Row = Eigen::Map<const Column<Scalar>>;
  const AttentionShape& shape = head.part.shape;
  const int64_t dim = shape.head_dim, begin = head.part.queries.row;
  for (int64_t i = begin; i < begin + head.part.queries.count; ++i) {
    const auto seen = head.KeysOf(i);
    if (seen.count == 0) continue;
    const auto keys = head.Rows(head.k, seen), values = head.Rows(head.v, seen);
    const Row query(head.q + i * head.q_stride, dim);
    const Row dy_row(dy + i * head.y_stride, dim), y_row(y + i * head.y_stride, dim);
    const Column<Scalar> s = AttentionScores(shape, head.q + i * head.q_stride, keys);
    const Column<Scalar> p = (s.array() - lse[i]).exp();
    const Scalar mean = dy_row.cwiseProduct(y_row).sum();
    Column<Scalar> ds = p.array() * ((values * dy_row).array() - mean) * Scalar(shape.Scale());
    if (shape.score_softcap != 0) {
      ds.array() *= Scalar(1) - (s.array() / Scalar(shape.score_softcap)).square();
    }
    Eigen::Map<Column<Scalar>>(dq + i * head.y_stride, dim) += keys.transpose() * ds;
    const int64_t at = seen.first * head.kv_stride;
    HeadRows(dk + at, seen.count, dim, head.kv_stride) += ds * query.transpose();
    HeadRows(dv + at, seen.count, dim, head.kv_stride) += p * dy_row.transpose();
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_REFERENCE_H_
