#include "core/ops/bias_add/bias_add_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <typename T>
void BiasAddForward(const T* x, const T* bias, int64_t rows, int64_t columns, T* y) {
  for (int64_t n = 0; n < rows; ++n, x += columns, y += columns) {
    ForEachVector(columns, [&](int64_t i, auto part) {
      Store(Load(x + i, part) + Load(bias + i, part), y + i, part);
    });
  }
}

template <typename T>
void BiasAddBackward(const T* dy, int64_t rows, int64_t columns, int64_t begin, int64_t end,
                     float* dbias) {
  for (int64_t n = 0; n < rows; ++n, dy += columns) {
    ForEachVector(end - begin, [&](int64_t i, auto part) {
      float* sum = dbias + begin + i;
      Store(Load(sum, part) + Load(dy + begin + i, part), sum, part);
    });
  }
}

template void BiasAddForward(const float*, const float*, int64_t, int64_t, float*);
template void BiasAddForward(const Bf16*, const Bf16*, int64_t, int64_t, Bf16*);
template void BiasAddBackward(const float*, int64_t, int64_t, int64_t, int64_t, float*);
template void BiasAddBackward(const Bf16*, int64_t, int64_t, int64_t, int64_t, float*);

}  // namespace strake::cpu::STRAKE_CPU_ISA
