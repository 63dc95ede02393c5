// Context attention whose keys and values come chunk by chunk, in the steps of context_steps.h.
//
// Messages of step s + 1 move while step s computes. Results of a rank are merged, and gradients
// that come home are added, in the order of steps, so bits do not depend on when messages arrive.
// Memory does not grow with C: two buffers for keys and values that come, and in the backward pass
// two for their gradients and one for gradients that come home. Returns the error of a message or
// an op, which also ends the group: the other ranks get it as the cause.
#ifndef STRAKE_PARALLEL_CONTEXT_RING_ATTENTION_H_
#define STRAKE_PARALLEL_CONTEXT_RING_ATTENTION_H_

#include "absl/status/status.h"
#include "core/tensor/tensor.h"
#include "parallel/context/context_operands.h"

namespace strake {

// y = [B*T/C, H*D] and lse = [B, H, T/C], in the dtype of sums.
absl::Status RingAttentionForward(const ContextOperands& operands, const Tensor& y,
                                  const Tensor& lse);

// dq [B*T/C, H*D] += and dkv = [B*T/C, 2 KV D], packed, both in the dtype of sums.
absl::Status RingAttentionBackward(const ContextOperands& operands, const Tensor& dy,
                                   const Tensor& y, const Tensor& lse, const Tensor& dq,
                                   const Tensor& dkv);

}  // namespace strake

#endif  // STRAKE_PARALLEL_CONTEXT_RING_ATTENTION_H_
