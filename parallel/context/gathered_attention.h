// Context attention whose keys and values are gathered first, all at once.
//
// The rank's queries then attend to them in one call for each chunk, which gives the bits of one
// rank where core/ops/attention/partial_attention.h says so. Gradients of keys and values are
// summed over the ranks, in rank order, by a reduce-scatter. Memory grows with the whole sequence.
// Returns the error of a collective or an op.
#ifndef STRAKE_PARALLEL_CONTEXT_GATHERED_ATTENTION_H_
#define STRAKE_PARALLEL_CONTEXT_GATHERED_ATTENTION_H_

#include "absl/status/status.h"
#include "core/tensor/tensor.h"
#include "parallel/context/context_operands.h"

namespace strake {

// y = [B*T/C, H*D] and lse = [B, H, T/C], in the dtype of sums.
absl::Status GatheredAttentionForward(const ContextOperands& operands, const Tensor& y,
                                      const Tensor& lse);

// dq [B*T/C, H*D] += and dkv = [B*T/C, 2 KV D], packed, both in the dtype of sums.
absl::Status GatheredAttentionBackward(const ContextOperands& operands, const Tensor& dy,
                                       const Tensor& y, const Tensor& lse, const Tensor& dq,
                                       const Tensor& dkv);

}  // namespace strake

#endif  // STRAKE_PARALLEL_CONTEXT_GATHERED_ATTENTION_H_
