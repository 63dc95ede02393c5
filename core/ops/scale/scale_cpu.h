// A multiplication by a number of f32 and bf16. See core/ops/scale/scale.h.
#ifndef STRAKE_CORE_OPS_SCALE_SCALE_CPU_H_
#define STRAKE_CORE_OPS_SCALE_SCALE_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
template <typename T>
void Scale(float factor, const T* x, int64_t size, T* y);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_SCALE_SCALE_CPU_H_
