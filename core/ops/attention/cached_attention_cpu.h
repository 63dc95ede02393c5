// Cached attention of f32 and bf16 for a few new tokens, computed in f32. Reads each key and value
// from memory once for all query heads that share it. See core/ops/attention/cached_attention.h.
#ifndef STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CPU_H_
#define STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CPU_H_

#include <cstdint>

#include "core/ops/attention/attention_kernel_cpu.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// Floats of scratch, for all heads together.
int64_t CachedAttentionScratch(const AttentionShape& shape, int64_t past);

// Computes query heads [begin, end). The cache already holds the new tokens' keys and values.
template <typename T>
void CachedAttentionForward(const AttentionInputs<T>& inputs, const AttentionShape& shape,
                            int64_t past, int64_t begin, int64_t end, float* scratch, T* y);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ATTENTION_CACHED_ATTENTION_CPU_H_
