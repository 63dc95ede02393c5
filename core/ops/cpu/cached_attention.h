// Cached attention at f32 for a few new tokens, which reads each key and value from memory once for
// all query heads that share it. See core/ops/cached_attention.h.
#ifndef STRAKE_CORE_OPS_CPU_CACHED_ATTENTION_H_
#define STRAKE_CORE_OPS_CPU_CACHED_ATTENTION_H_

#include <cstdint>

#include "core/base/thread_team.h"
#include "core/ops/attention_shape.h"
#include "core/ops/cpu/causal_attention.h"

namespace strake::cpu {

// Floats of scratch, all threads together.
int64_t CachedAttentionScratch(const AttentionShape& shape, int64_t past);

// The cache already holds the new tokens' keys and values. `scratch` is 64-byte aligned.
void CachedAttentionForward(ThreadTeam& team, const AttentionInputs& inputs,
                            const AttentionShape& shape, int64_t past, float* scratch, float* y);

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_CACHED_ATTENTION_H_
