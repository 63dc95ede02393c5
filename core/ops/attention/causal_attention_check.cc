#include "core/ops/attention/causal_attention_check.h"

#include <cmath>

#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/causal_attention.h"

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

}  // namespace

OpCheck CausalAttentionCheck(const OpCall& call) {
  const AttentionShape shape = GetAttentionShape(call);
  const Rounding rounding = AttentionRounding(shape);
  if (!call.Has("dy")) {
    return {.tensors = {In(call, "qkv"), Out(call, "y", rounding),
                        Out(call, "lse", {rounding.num_terms, rounding.num_roundings})},
            .run = [shape](const Context& ctx, const Tensors& t) {
              return CausalAttentionForward(ctx, t[0], shape, t[1], t[2]);
            }};
  }
  // Two products in sequence: the rounding of dp adds to that of p.
  return {.tensors = {In(call, "dy"), In(call, "qkv"), In(call, "y"), In(call, "lse"),
                      Out(call, "dqkv",
                          {4 * rounding.num_terms, 2 * rounding.num_roundings,
                           2 * rounding.num_stores})},
          .run =
              [shape](const Context& ctx, const Tensors& t) {
                return CausalAttentionBackward(ctx, t[0], t[1], t[2], t[3], shape, t[4]);
              },
          .prepare =
              [shape](const Context& ctx, const Tensors& t) {
                return CausalAttentionForward(ctx, t[1], shape, t[2], t[3]);
              }};
}

}  // namespace strake
