#include "core/ops/softcap/softcap_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void Softcap(float cap, const T* x, int64_t size, T* y) {
  const float inverse = 1 / cap;
  ForEachVector(size, [&](int64_t i, auto part) {
    Store(cap * Tanh(Load(x + i, part) * inverse), y + i, part);
  });
}

template void Softcap(float, const float*, int64_t, float*);
template void Softcap(float, const Bf16*, int64_t, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
