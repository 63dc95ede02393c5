// GELU of f32 and bf16. See core/ops/gelu/gelu.h.
#ifndef STRAKE_CORE_OPS_GELU_GELU_CPU_H_
#define STRAKE_CORE_OPS_GELU_GELU_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
template <typename T>
void GeluForward(const T* x, int64_t size, T* y);
template <typename T>
void GeluBackward(const T* dy, const T* x, int64_t size, T* dx);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_GELU_GELU_CPU_H_
