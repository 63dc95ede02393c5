// What the check cases of attentions share.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_CHECK_PARTS_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_CHECK_PARTS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/device/op_call.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/check/op_check.h"
#include "core/ops/documents.h"

namespace strake {

// A relative error of a probability is an absolute error of a score. A score is a sum of D
// products, which gives about sqrt(D) roundings, plus a few of scale, shift and exponential, and 8
// of a cap, whose slope is at most 1. They round numbers up to the largest score, which is about D
// times the scale for queries and keys of unit variance: |q| |k| times the scale. The sum over keys
// has as many terms as a query sees, which is at most `num_keys`. In bf16 a kernel may round each
// probability, or its gradient, to bf16 before its product, which changes y by up to 2^-8 of the
// largest value. The largest element of y is more than half of that value, because the first row of
// y of each sequence is itself a value: two stores.
inline Rounding AttentionRounding(const AttentionShape& shape, int64_t num_keys) {
  const double root = std::sqrt(static_cast<double>(shape.head_dim));
  const double roundings = root + 4 + (shape.score_softcap == 0 ? 0 : 8);
  return {static_cast<double>(num_keys), roundings * (1 + shape.head_dim * shape.Scale()), 2};
}

// Two products in sequence: the rounding of dp adds to that of p.
inline Rounding AttentionGradientRounding(const Rounding& forward) {
  return {4 * forward.num_terms, 2 * forward.num_roundings, 2 * forward.num_stores};
}

// Lengths of as many documents as the call has, in sequences of `seq_len` tokens, which differ by
// at most 1 but for the ends of sequences; empty without documents.
inline std::vector<int64_t> DocumentLengths(const OpCall& call, int64_t batch, int64_t seq_len) {
  std::vector<int64_t> lengths;
  if (!call.Has("positions") || seq_len == 0) return lengths;
  const int64_t documents = call.GetInt("num_documents");
  for (int64_t b = 0; b < batch; ++b) {
    // This sequence's documents: at least one, and no more than tokens.
    const int64_t share = documents * (b + 1) / batch - documents * b / batch;
    const int64_t count = std::clamp<int64_t>(share, 1, seq_len);
    for (int64_t d = 0; d < count; ++d) {
      lengths.push_back(seq_len * (d + 1) / count - seq_len * d / count);
    }
  }
  return lengths;
}

// Positions are the last of `tensors`, if there are lengths.
inline Documents DocumentsOf(const std::vector<int64_t>& lengths, const Tensors& tensors) {
  return lengths.empty() ? Documents() : Documents{tensors.back(), lengths};
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_CHECK_PARTS_H_
