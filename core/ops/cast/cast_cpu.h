// Conversions between f32 and bf16. See core/ops/cast/cast.h.
#ifndef STRAKE_CORE_OPS_CAST_CAST_CPU_H_
#define STRAKE_CORE_OPS_CAST_CAST_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
void Cast(const float* x, int64_t size, Bf16* y);
void Cast(const Bf16* x, int64_t size, float* y);
void CastAdd(const Bf16* x, int64_t size, float* y);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CAST_CAST_CPU_H_
