#include "core/ops/residual_add/residual_add_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void ResidualAddForward(const T* x, const T* residual, int64_t size, T* y) {
  ForEachVector(size, [&](int64_t i, auto part) {
    Store(Load(x + i, part) + Load(residual + i, part), y + i, part);
  });
}

template void ResidualAddForward(const float*, const float*, int64_t, float*);
template void ResidualAddForward(const Bf16*, const Bf16*, int64_t, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
