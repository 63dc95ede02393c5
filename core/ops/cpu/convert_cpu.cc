#include "core/ops/cpu/convert_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

void Convert(const Bf16* from, int64_t size, float* to) {
  ForEachVector(size, [&](int64_t i, auto part) { Store(Load(from + i, part), to + i, part); });
}

void Convert(const float* from, int64_t size, Bf16* to) {
  ForEachVector(size, [&](int64_t i, auto part) { Store(Load(from + i, part), to + i, part); });
}

}  // namespace strake::cpu::STRAKE_CPU_ISA
