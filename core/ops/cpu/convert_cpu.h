// Conversions between f32 and bf16, to nearest even.
#ifndef STRAKE_CORE_OPS_CPU_CONVERT_CPU_H_
#define STRAKE_CORE_OPS_CPU_CONVERT_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
void Convert(const Bf16* from, int64_t size, float* to);
void Convert(const float* from, int64_t size, Bf16* to);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_CONVERT_CPU_H_
