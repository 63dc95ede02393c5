#include "core/ops/cast/cast_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

void Cast(const float* x, int64_t size, Bf16* y) {
  ForEachVector(size, [&](int64_t i, auto part) { Store(Load(x + i, part), y + i, part); });
}

void Cast(const Bf16* x, int64_t size, float* y) {
  ForEachVector(size, [&](int64_t i, auto part) { Store(Load(x + i, part), y + i, part); });
}

void CastAdd(const Bf16* x, int64_t size, float* y) {
  ForEachVector(size, [&](int64_t i, auto part) {
    Store(Load(y + i, part) + Load(x + i, part), y + i, part);
  });
}

}  // namespace strake::cpu::STRAKE_CPU_ISA
