// SwiGLU of f32 and bf16. See core/ops/swiglu/swiglu.h.
#ifndef STRAKE_CORE_OPS_SWIGLU_SWIGLU_CPU_H_
#define STRAKE_CORE_OPS_SWIGLU_SWIGLU_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// gate_up has rows of 2 * columns elements, y and dy of `columns`.
template <typename T>
void SwigluForward(const T* gate_up, int64_t rows, int64_t columns, T* y);
template <typename T>
void SwigluBackward(const T* dy, const T* gate_up, int64_t rows, int64_t columns, T* dgate_up);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_SWIGLU_SWIGLU_CPU_H_
