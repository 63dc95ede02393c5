// Causal attention of f32 and bf16 on the threads of a team. See
// core/ops/attention/causal_attention.h; here the queries may begin at a later position than the
// keys.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CPU_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CPU_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/base/thread_team.h"
#include "core/ops/attention/attention_kernel_cpu.h"
#include "core/ops/attention/attention_shape.h"

namespace strake::cpu {

// Floats of scratch for each thread of the team; `num_keys` is per sequence.
int64_t CausalAttentionForwardScratch(int64_t num_keys, int64_t head_dim);
int64_t CausalAttentionBackwardScratch(int64_t num_keys, int64_t head_dim);

// Token n of a sequence is at position past + n and sees keys up to it. lse may be null. With
// `lengths` of documents (core/ops/documents.h), which are valid, each is a sequence of its own,
// and past is 0. `scratch`, 64-byte aligned, holds CausalAttentionForwardScratch(past + T, D)
// floats per thread.
template <typename T>
void CausalAttentionForward(ThreadTeam& team, const AttentionInputs<T>& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, T* y,
                            float* lse, absl::Span<const int64_t> lengths = {});

// `scratch` as in the forward pass; past is 0.
template <typename T>
void CausalAttentionBackward(ThreadTeam& team, const AttentionGradients<T>& gradients,
                             float* scratch, absl::Span<const int64_t> lengths = {});

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CPU_H_
