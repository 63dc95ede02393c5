// Causal attention at f32 by blocks of queries against blocks of keys. See
// core/ops/causal_attention.h; the queries here may begin at a later position than the keys.
#ifndef STRAKE_CORE_OPS_CPU_CAUSAL_ATTENTION_H_
#define STRAKE_CORE_OPS_CPU_CAUSAL_ATTENTION_H_

#include <cstdint>

#include "core/base/thread_team.h"
#include "core/ops/attention_shape.h"

namespace strake::cpu {

// The first elements of the queries, keys and values of all heads, with the distance of tokens.
struct AttentionInputs {
  const float* q;
  int64_t q_stride;
  const float* k;
  const float* v;
  int64_t kv_stride;
};

// Floats of scratch for each thread of the team; `num_keys` per sequence.
int64_t CausalAttentionForwardScratch(int64_t num_keys, int64_t head_dim);
int64_t CausalAttentionBackwardScratch(int64_t num_keys, int64_t head_dim);

// Token n of a sequence stands at position past + n and sees keys [0, past + n]. lse may be null.
// `scratch`, 64-byte aligned, holds CausalAttentionForwardScratch(past + T, D) floats per thread.
void CausalAttentionForward(ThreadTeam& team, const AttentionInputs& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, float* y,
                            float* lse);

// `scratch` likewise; past is 0. The gradients lie as the inputs do, kv_stride == q_stride.
void CausalAttentionBackward(ThreadTeam& team, const float* dy, const AttentionInputs& inputs,
                             const float* y, const float* lse, const AttentionShape& shape,
                             float* scratch, float* dq, float* dk, float* dv);

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_CAUSAL_ATTENTION_H_
