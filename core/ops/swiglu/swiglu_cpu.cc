#include "core/ops/swiglu/swiglu_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void SwigluForward(const T* gate_up, int64_t rows, int64_t columns, T* y) {
  for (int64_t n = 0; n < rows; ++n, gate_up += 2 * columns, y += columns) {
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec gate = Load(gate_up + i, part), up = Load(gate_up + columns + i, part);
      Store(gate * Sigmoid(gate).value * up, y + i, part);
    });
  }
}

template <typename T>
void SwigluBackward(const T* dy, const T* gate_up, int64_t rows, int64_t columns, T* dgate_up) {
  for (int64_t n = 0; n < rows; ++n) {
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec gate = Load(gate_up + i, part), up = Load(gate_up + columns + i, part);
      const Vec d = Load(dy + i, part);
      const Sigmoid sigmoid(gate);
      Store(d * up * (sigmoid.value * (1 + gate * sigmoid.complement)), dgate_up + i, part);
      Store(d * (gate * sigmoid.value), dgate_up + columns + i, part);
    });
    dy += columns;
    gate_up += 2 * columns;
    dgate_up += 2 * columns;
  }
}

template void SwigluForward(const float*, int64_t, int64_t, float*);
template void SwigluForward(const Bf16*, int64_t, int64_t, Bf16*);
template void SwigluBackward(const float*, const float*, int64_t, int64_t, float*);
template void SwigluBackward(const Bf16*, const Bf16*, int64_t, int64_t, Bf16*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
