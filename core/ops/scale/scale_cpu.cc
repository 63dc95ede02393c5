#include "core/ops/scale/scale_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void Scale(float factor, const T* x, int64_t size, T* y) {
  ForEachVector(size,
                [&](int64_t i, auto part) { Store(Load(x + i, part) * factor, y + i, part); });
}

template void Scale(float, const float*, int64_t, float*);
template void Scale(float, const Bf16*, int64_t, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
