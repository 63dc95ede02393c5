// Sums of two tensors of f32 or bf16. See core/ops/residual_add/residual_add.h.
#ifndef STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CPU_H_
#define STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
template <typename T>
void ResidualAddForward(const T* x, const T* residual, int64_t size, T* y);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_RESIDUAL_ADD_RESIDUAL_ADD_CPU_H_
