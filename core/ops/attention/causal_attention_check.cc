#include "core/ops/attention/causal_attention_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"

namespace strake {
namespace {

// A relative error of a probability is an absolute error of a score. A score is a sum of D
// products, which gives about sqrt(D) roundings, plus a few of scale, shift and exponential, and 8
// of a cap, whose slope is at most 1. They round numbers up to the largest score, which is about D
// times the scale for queries and keys of unit variance: |q| |k| times the scale. The sum over keys
// has as many terms as a query sees. In bf16 a kernel may round each probability, or its gradient,
// to bf16 before its product, which changes y by up to 2^-8 of the largest value. The largest
// element of y is more than half of that value, because the first row of y of each sequence is
// itself a value: two stores.
Rounding AttentionRounding(const AttentionShape& shape) {
  const double root = std::sqrt(static_cast<double>(shape.head_dim));
  const double roundings = root + 4 + (shape.score_softcap == 0 ? 0 : 8);
  const int64_t last = shape.seq_len - 1, keys = last + 1 - shape.FirstKey(last);
  return {static_cast<double>(keys), roundings * (1 + shape.head_dim * shape.Scale()), 2};
}

// The lengths of the call's documents, which differ by at most 1 but for the ends of sequences;
// empty without documents.
std::vector<int64_t> DocumentLengths(const OpCall& call, const AttentionShape& shape) {
  std::vector<int64_t> lengths;
  if (!call.Has("positions") || shape.seq_len == 0) return lengths;
  const int64_t documents = call.GetInt("num_documents");
  for (int64_t b = 0; b < shape.batch; ++b) {
    // This sequence's documents: at least one, and no more than tokens.
    const int64_t share = documents * (b + 1) / shape.batch - documents * b / shape.batch;
    const int64_t count = std::clamp<int64_t>(share, 1, shape.seq_len);
    for (int64_t d = 0; d < count; ++d) {
      lengths.push_back(shape.seq_len * (d + 1) / count - shape.seq_len * d / count);
    }
  }
  return lengths;
}

// Adds the positions of documents, if there are any.
std::vector<OpTensor> WithPositions(const OpCall& call, const std::vector<int64_t>& lengths,
                                    std::vector<OpTensor> tensors) {
  std::vector<int32_t> positions;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) positions.push_back(static_cast<int32_t>(i));
  }
  if (!lengths.empty()) tensors.push_back(Ids(call, "positions", std::move(positions)));
  return tensors;
}

// Positions are the last of `tensors`, if there are lengths.
Documents DocumentsOf(const std::vector<int64_t>& lengths, const Tensors& tensors) {
  return lengths.empty() ? Documents() : Documents{tensors.back(), lengths};
}

}  // namespace

OpCheck CausalAttentionCheck(const OpCall& call) {
  const AttentionShape shape = GetAttentionShape(call);
  const Rounding rounding = AttentionRounding(shape);
  const std::vector<int64_t> lengths = DocumentLengths(call, shape);
  if (!call.Has("dy")) {
    return {
        .tensors = WithPositions(call, lengths,
                                 {In(call, "qkv"), Out(call, "y", rounding),
                                  Out(call, "lse", {rounding.num_terms, rounding.num_roundings})}),
        .run = [shape, lengths](const Context& ctx, const Tensors& t) {
          return CausalAttentionForward(ctx, t[0], shape, t[1], t[2], DocumentsOf(lengths, t));
        }};
  }
  // Two products in sequence: the rounding of dp adds to that of p.
  const Rounding gradient = {4 * rounding.num_terms, 2 * rounding.num_roundings,
                             2 * rounding.num_stores};
  return {.tensors = WithPositions(call, lengths,
                                   {In(call, "dy"), In(call, "qkv"), In(call, "y"), In(call, "lse"),
                                    Out(call, "dqkv", gradient)}),
          .run =
              [shape, lengths](const Context& ctx, const Tensors& t) {
                return CausalAttentionBackward(ctx, t[0], t[1], t[2], t[3], shape, t[4],
                                               DocumentsOf(lengths, t));
              },
          .prepare =
              [shape, lengths](const Context& ctx, const Tensors& t) {
                return CausalAttentionForward(ctx, t[1], shape, t[2], t[3],
                                              DocumentsOf(lengths, t));
              }};
}

}  // namespace strake
