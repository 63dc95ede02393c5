// Activation functions of f32 and bf16. See core/ops/activation/activation.h.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CPU_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
template <typename T>
void ActivationForward(ActivationKind kind, const T* x, int64_t size, T* y);
template <typename T>
void ActivationBackward(ActivationKind kind, const T* dy, const T* x, int64_t size, T* dx);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_CPU_H_
