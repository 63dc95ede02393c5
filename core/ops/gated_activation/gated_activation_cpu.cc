#include "core/ops/gated_activation/gated_activation_cpu.h"

#include "core/ops/activation/activation_functions_cpu.h"
#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void GatedActivationForward(ActivationKind kind, const T* gate_up, int64_t rows, int64_t columns,
                            T* y) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    const T* gate = gate_up;
    T* to = y;
    for (int64_t n = 0; n < rows; ++n, gate += 2 * columns, to += columns) {
      ForEachVector(columns, [&](int64_t i, auto part) {
        const Activation<kKind> act(Load(gate + i, part));
        Store(act.Value() * Load(gate + columns + i, part), to + i, part);
      });
    }
  });
}

template <typename T>
void GatedActivationBackward(ActivationKind kind, const T* dy, const T* gate_up, int64_t rows,
                             int64_t columns, T* dgate_up) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    const T *d_row = dy, *gate = gate_up;
    T* dgate = dgate_up;
    for (int64_t n = 0; n < rows; ++n) {
      ForEachVector(columns, [&](int64_t i, auto part) {
        const Activation<kKind> act(Load(gate + i, part));
        const Vec up = Load(gate + columns + i, part), d = Load(d_row + i, part);
        Store(act.TimesSlope(d * up), dgate + i, part);
        Store(d * act.Value(), dgate + columns + i, part);
      });
      d_row += columns;
      gate += 2 * columns;
      dgate += 2 * columns;
    }
  });
}

#define STRAKE_INSTANTIATE(T)                                                           \
  template void GatedActivationForward(ActivationKind, const T*, int64_t, int64_t, T*); \
  template void GatedActivationBackward(ActivationKind, const T*, const T*, int64_t, int64_t, T*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
