// QkNorm: RMSNorm of the queries and keys in a fused matrix [Q | K | V], in place; V stays.
//
//   rstd[n,g] = 1 / sqrt(mean_{c in g}(x[n,c]^2) + eps)
//   y[n,c]    = x[n,c] rstd[n,g] (offset + weight[c])          c in group g of token n
//
//   N tokens, D head size; this rank's H query heads and KV key/value heads; G groups of columns
//               groups                     weights
//   kPerHead    H + KV: each head          query [D], key [D]: shared by heads
//   kWhole      2: all queries, all keys   query [H D], key [KV D]
//
// Where T ranks share the heads, the means of kWhole are over all of them: an all-reduce of sums
// [N, 2] stands between QkNormForwardSums() and QkNormForward(), and between QkNormBackwardSums()
// and QkNormBackward(). A key/value head that several ranks hold then counts once for each of them.
// As all heads have equally many holders, the mean stays what it is; and in the backward pass each
// holder subtracts its share of the mean's gradient, so that the holders' partial gradients add up.
//
// dtypes: f32; bf16, with sums, rstd and gradients of weights in f32; f64 and c128 on the reference
// path. All other tensors share one dtype.
// Sources: Henry et al., "Query-Key Normalization for Transformers", 2020, with an l2 norm;
// Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", 2023, section 2, per
// head; Team OLMo, "2 OLMo 2 Furious", 2025, of the whole projection.
#ifndef STRAKE_CORE_OPS_QK_NORM_QK_NORM_H_
#define STRAKE_CORE_OPS_QK_NORM_QK_NORM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/tensor/tensor.h"

namespace strake {

enum class QkNormKind { kPerHead, kWhole };

// One rank's heads.
struct QkNormHeads {
  QkNormKind kind;
  int64_t num_heads, num_kv_heads, head_dim;
  int num_ranks = 1;  // T of kWhole

  int64_t num_groups() const { return kind == QkNormKind::kWhole ? 2 : num_heads + num_kv_heads; }
  // Of a row: queries and keys, and all of it.
  int64_t num_normalized() const { return (num_heads + num_kv_heads) * head_dim; }
  int64_t num_columns() const { return num_normalized() + num_kv_heads * head_dim; }
};

struct QkNormWeights {
  Tensor query, key;
  double offset = 0;  // is added to each weight, in the type of the sums
};

// Normalizes qkv [N, (H + 2 KV) D] in place. rstd [N, G] =.
//   raw [N, (H + KV) D]  = the queries and keys before; undefined: not kept
//   sums [N, 2]          of all ranks, with kWhole; undefined: of this rank's columns, for T = 1
absl::Status QkNormForward(const Context& ctx, const QkNormHeads& heads,
                           const QkNormWeights& weights, double eps, const Tensor& sums, Tensor qkv,
                           Tensor raw, Tensor rstd);

// From the gradient of y in dqkv [N, (H + 2 KV) D], and the forward pass's raw and rstd:
//   dqkv, of queries and keys   = the gradient of x, in place
//   dquery, dkey                += the gradients of weights; both undefined: not computed
//   dweight[c] += sum_n dy[n,c] xhat[n,c], with kPerHead over heads too
//   dx[n,c]     = rstd[n,g] (p[n,c] - xhat[n,c] mean_{c in g}(p xhat)),
//   p = dy (offset + weight), xhat = x rstd
absl::Status QkNormBackward(const Context& ctx, const QkNormHeads& heads,
                            const QkNormWeights& weights, const Tensor& raw, const Tensor& rstd,
                            const Tensor& sums, Tensor dqkv, Tensor dquery, Tensor dkey);

// The gradients of weights alone, from the gradient of y in dy [N, (H + KV) D], the queries and
// keys: the bits that QkNormBackward() gives them.
absl::Status QkNormBackwardWeight(const Context& ctx, const QkNormHeads& heads,
                                  const QkNormWeights& weights, const Tensor& raw,
                                  const Tensor& rstd, const Tensor& dy, Tensor dquery, Tensor dkey);

// sums [N, 2] = the sums over this rank's queries, and over its keys, of
//   x^2                              in the forward pass, before QkNormForward()
//   dy (offset + weight) x           in the backward pass, before QkNormBackward()
// Both are for kWhole alone.
absl::Status QkNormForwardSums(const Context& ctx, const QkNormHeads& heads, const Tensor& qkv,
                               Tensor sums);
absl::Status QkNormBackwardSums(const Context& ctx, const QkNormHeads& heads,
                                const QkNormWeights& weights, const Tensor& raw, const Tensor& dqkv,
                                Tensor sums);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_QK_NORM_QK_NORM_H_
