// Causal attention of f32 and bf16 on the threads of a team. See
// core/ops/attention/causal_attention.h and partial_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CPU_H_
#define STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CPU_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/base/thread_team.h"
#include "core/ops/attention/attention_kernel_cpu.h"
#include "core/ops/attention/attention_segment.h"
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

// `scratch` as in the forward pass. Of `gradients`, past is 0 and there are T keys.
template <typename T>
void CausalAttentionBackward(ThreadTeam& team, const AttentionGradients<T, T>& gradients,
                             float* scratch, absl::Span<const int64_t> lengths = {});

// The same of segments, in ascending order, none of which has more than `max_keys` keys. `scratch`
// is for so many. Changes no rows of other queries.
template <typename T, typename Y>
void SegmentedAttentionForward(ThreadTeam& team, const AttentionInputs<T>& inputs,
                               const AttentionShape& shape,
                               absl::Span<const AttentionSegment> segments, int64_t max_keys,
                               float* scratch, const AttentionOutputs<Y>& outputs);

// Of `gradients`, `keys` are not read. No two segments share a key.
template <typename T, typename Gradient>
void SegmentedAttentionBackward(ThreadTeam& team, const AttentionGradients<T, Gradient>& gradients,
                                absl::Span<const AttentionSegment> segments, int64_t max_keys,
                                float* scratch);

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ATTENTION_CAUSAL_ATTENTION_CPU_H_
