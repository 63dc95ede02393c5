// Causal attention of sequences that context-parallel ranks share.
//
// As core/ops/attention/causal_attention.h, of a rank's tokens: B sequences, of each T/C tokens in
// the rank's two chunks. One rank's is that op. Also returns the error of a message or a
// collective, which names the axis and the rank that caused it. With ContextComm::kRing any error
// ends the group, so that the other ranks get it as the cause.
#ifndef STRAKE_PARALLEL_CONTEXT_CONTEXT_ATTENTION_H_
#define STRAKE_PARALLEL_CONTEXT_CONTEXT_ATTENTION_H_

#include "absl/status/status.h"
#include "core/device/context.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/documents.h"
#include "core/tensor/tensor.h"
#include "parallel/context/context_parallel.h"

namespace strake {

// y = [B*T/C, H*D] and lse = [B, H, T/C], from qkv [B*T/C, (H + 2 KV) * D] after RoPE.
// shape.seq_len is T/C. With several ranks, documents.positions [B*T/C] are those of the rank's
// tokens, and documents.lengths divide the whole sequences.
absl::Status ContextAttentionForward(const Context& ctx, const ContextParallel& cp,
                                     const Tensor& qkv, const AttentionShape& shape, Tensor y,
                                     Tensor lse, const Documents& documents = {});

// dqkv = [B*T/C, (H + 2 KV) * D], from dy [B*T/C, H*D] and the forward pass's qkv, y and lse.
absl::Status ContextAttentionBackward(const Context& ctx, const ContextParallel& cp,
                                      const Tensor& dy, const Tensor& qkv, const Tensor& y,
                                      const Tensor& lse, const AttentionShape& shape, Tensor dqkv,
                                      const Documents& documents = {});

}  // namespace strake

#endif  // STRAKE_PARALLEL_CONTEXT_CONTEXT_ATTENTION_H_
