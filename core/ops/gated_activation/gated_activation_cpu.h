// Gated activations of f32 and bf16. See core/ops/gated_activation/gated_activation.h.
#ifndef STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CPU_H_
#define STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CPU_H_

#include <cstdint>

#include "core/base/dtype.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/cpu/isa.h"

namespace strake::cpu {

// clang-format off
STRAKE_CPU_KERNEL(
// gate_up has rows of 2 * columns elements, y and dy of `columns`.
template <typename T>
void GatedActivationForward(ActivationKind kind, const T* gate_up, int64_t rows, int64_t columns,
                            T* y);
template <typename T>
void GatedActivationBackward(ActivationKind kind, const T* dy, const T* gate_up, int64_t rows,
                             int64_t columns, T* dgate_up);
)
// clang-format on

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_GATED_ACTIVATION_GATED_ACTIVATION_CPU_H_
