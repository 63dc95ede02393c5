// Causal attention with grouped key/value heads, on a fused QKV matrix.
//
//   s[i,j] = a q[i] . k[j]  for i - W < j <= i,   p = softmax_j(s),   y[i] = sum_j p[i,j] v[j]
//
// a is shape.Scale(), 1 / sqrt(D) unless set. W is the window; without one, all j <= i are seen.
// A cap c on the scores makes s[i,j] = c tanh(a q[i] . k[j] / c).
// Documents, where given, divide each sequence (core/ops/documents.h): a token then sees only
// tokens of its own document, as if that were a sequence alone, with windows, caps and scales as
// above. On the CPU in f32 and bf16, each document's outputs and gradients have the bits that they
// have alone.
// B sequences of T tokens, H query heads, KV key/value heads (H a multiple of KV; query head h
// reads key/value head h / (H / KV)), D head size. A row of qkv holds H query heads, then KV key
// heads, then KV value heads. dtypes: f32; bf16, with lse in f32; f64 and c128 on the reference
// path. All other tensors share one dtype. No T x T matrix is kept: the backward pass recomputes
// the probabilities from `lse`. Token i depends on the tokens that it sees. The one exception:
// non-finite values in k and v of a token that it does not see may reach it if they share a tile.
// Time and FLOPs count the pairs (i, j) that are seen, so with a window they are linear in T; with
// documents the pairs are a sum over documents. On CUDA, returns InvalidArgument for D above 256.
// Returns CheckDocuments()'s error.
// Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.1; Ainslie et al., "GQA",
// 2023, section 2.2; Dao et al., "FlashAttention", 2022, section 3.1 and appendix B. Windows:
// Beltagy et al., "Longformer", 2020, section 3.1; Jiang et al., "Mistral 7B", 2023, section 2.
// Caps: Gemma Team, "Gemma 2", 2024, section 2. Documents: Grattafiori et al., "The Llama 3 Herd of
// Models", 2024, section 3.2.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor.h"

namespace strake {

// y = [B*T, H*D] and lse = [B, H, T] (log of the sum of exp(s)), from qkv [B*T, (H + 2 KV) * D].
absl::Status CausalAttentionForward(const Context& ctx, const Tensor& qkv,
                                    const AttentionShape& shape, Tensor y, Tensor lse,
                                    const Documents& documents = {});

// dqkv = [B*T, (H + 2 KV) * D], from dy [B*T, H*D] and the forward pass's qkv, y and lse.
absl::Status CausalAttentionBackward(const Context& ctx, const Tensor& dy, const Tensor& qkv,
                                     const Tensor& y, const Tensor& lse,
                                     const AttentionShape& shape, Tensor dqkv,
                                     const Documents& documents = {});

// Returns OK if cuDNN's kernels compute bf16 attention of this shape on the context's GPU.
// Otherwise returns the reason why Strake's own kernels, which are slower, compute it. The answer
// does not change. With documents, Strake's own kernels also compute batches of more documents than
// cuDNN's were planned for, 16 for each sequence or one for each 64 tokens.
absl::Status CausalAttentionHasCudnn(const Context& ctx, const AttentionShape& shape,
                                     bool with_documents = false);

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_H_
