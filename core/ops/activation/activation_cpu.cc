#include "core/ops/activation/activation_cpu.h"

#include "core/ops/activation/activation_functions_cpu.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void ActivationForward(ActivationKind kind, const T* x, int64_t size, T* y) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    ForEachVector(size, [&](int64_t i, auto part) {
      Store(Activation<kKind>(Load(x + i, part)).Value(), y + i, part);
    });
  });
}

template <typename T>
void ActivationBackward(ActivationKind kind, const T* dy, const T* x, int64_t size, T* dx) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    ForEachVector(size, [&](int64_t i, auto part) {
      const Activation<kKind> f(Load(x + i, part));
      Store(f.TimesSlope(Load(dy + i, part)), dx + i, part);
    });
  });
}

template void ActivationForward(ActivationKind, const float*, int64_t, float*);
template void ActivationForward(ActivationKind, const Bf16*, int64_t, Bf16*);
template void ActivationBackward(ActivationKind, const float*, const float*, int64_t, float*);
template void ActivationBackward(ActivationKind, const Bf16*, const Bf16*, int64_t, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
