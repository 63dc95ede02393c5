// Partial attention: queries against some of the keys that they see. Results of disjoint keys merge
// to those of all.
//
//   s[i,j]  the score of query i and key j, as in causal_attention.h, for the keys that i sees
//   l[i] = log(sum_j exp(s[i,j])),   z[i] = sum_j exp(s[i,j] - l[i]) v[j]
//   lse'[i] = log(exp(lse[i]) + exp(l[i]))
//   y'[i] = exp(lse[i] - lse'[i]) y[i] + exp(l[i] - lse'[i]) z[i]
//
// B sequences, of which the matrices have some tokens: R rows of each of queries, S of keys. H
// query heads, KV key/value heads, D head size. A call takes a span of the queries and one of the
// keys of each sequence. Which keys a query sees is decided by positions in the whole sequence:
// none behind its own, in a window, and in its document. A query that sees none of the keys keeps y
// and lse. dtypes: f32; bf16; f64 and c128 on the reference path. y and lse, and gradients of
// queries, keys and values, are sums: f32 for bf16, else the dtype of qkv. On CUDA, returns
// InvalidArgument for D above 256. Bits: on the CPU in f32 and bf16, keys from position 0 to the
// end of the queries, given at once, give the y and lse of causal_attention.h where queries, and
// their documents, begin at multiples of 64. Source: Liu et al., "Ring Attention with Blockwise
// Transformers for Near-Infinite Context", 2023, section 3; Dao et al., "FlashAttention", 2022,
// section 3.1.
#ifndef STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_H_
#define STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/attention/partial_attention_shape.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor.h"

namespace strake {

// Returns whether a query sees any of the keys, documents aside.
bool SeesAny(const AttentionShape& shape, const TokenSpan& queries, const TokenSpan& keys);

// Merges into y [B*R, H*D] and lse [B, H, R] the attention of the queries of qkv
// [B*R, (H + 2 KV) * D], whose own keys and values are not read, to keys and values of kv
// [B*S, 2 KV * D]. Without `merge` sets y and lse, of a query without keys to 0 and -infinity.
// documents.positions [B*R] are those of the queries in their documents; documents.lengths divide
// the whole sequences.
absl::Status PartialAttentionForward(const Context& ctx, const Tensor& qkv, const Tensor& kv,
                                     const PartialAttention& part, bool merge, Tensor y, Tensor lse,
                                     const Documents& documents = {});

// dq [B*R, H*D] += and dkv [B*S, 2 KV * D] +=, in rows of the spans, from dy [B*R, H*D] and the
// attention y [B*R, H*D], in the dtype of qkv, and lse of all keys.
absl::Status PartialAttentionBackward(const Context& ctx, const Tensor& dy, const Tensor& qkv,
                                      const Tensor& kv, const Tensor& y, const Tensor& lse,
                                      const PartialAttention& part, Tensor dq, Tensor dkv,
                                      const Documents& documents = {});

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_H_
