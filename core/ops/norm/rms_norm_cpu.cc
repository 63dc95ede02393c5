#include "core/ops/norm/rms_norm_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Stores sum = x + residual, as it is rounded, and returns the sum of its squares; of x without
// residual.
template <typename T>
STRAKE_INLINE float AddResidual(const T* x, const T* residual, int64_t columns, T* sum) {
  Vec squares{};
  ForEachVector(columns, [&](int64_t i, auto part) {
    Vec value = Load(x + i, part);
    if (residual != nullptr) {
      Store(value + Load(residual + i, part), sum + i, part);
      value = Load(sum + i, part);
    }
    squares += value * value;
  });
  return Sum(squares);
}

}  // namespace

template <typename T>
void RmsNormForward(const T* x, const T* residual, const T* weight, int64_t rows, int64_t columns,
                    float eps, T* sum, T* y, float* rstd) {
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * columns;
    const float squares =
        AddResidual(x + at, residual == nullptr ? nullptr : residual + at, columns, sum + at);
    const T* row = (residual == nullptr ? x : sum) + at;
    const float r = 1 / __builtin_sqrtf(squares / columns + eps);
    ForEachVector(columns, [&](int64_t i, auto part) {
      Store(Load(row + i, part) * r * Load(weight + i, part), y + at + i, part);
    });
    rstd[n] = r;
  }
}

template <typename T>
void RmsNormBackwardInput(const T* dy, const T* x, const T* weight, const float* rstd, int64_t rows,
                          int64_t columns, bool accumulate_dx, T* dx) {
  for (int64_t n = 0; n < rows; ++n, dy += columns, x += columns, dx += columns) {
    const float r = rstd[n];
    Vec sum{};
    ForEachVector(columns, [&](int64_t i, auto part) {
      sum += Load(dy + i, part) * Load(weight + i, part) * Load(x + i, part);
    });
    const float mean = Sum(sum) * r / columns;
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec g = Load(dy + i, part) * Load(weight + i, part);
      const Vec value = r * (g - Load(x + i, part) * (r * mean));
      Store(accumulate_dx ? Load(dx + i, part) + value : value, dx + i, part);
    });
  }
}

template <typename T>
void RmsNormBackwardWeight(const T* dy, const T* x, const float* rstd, int64_t rows,
                           int64_t columns, int64_t begin, int64_t end, float* dweight) {
  for (int64_t n = 0; n < rows; ++n, dy += columns, x += columns) {
    const float r = rstd[n];
    ForEachVector(end - begin, [&](int64_t i, auto part) {
      float* dw = dweight + begin + i;
      Store(Load(dw, part) + Load(dy + begin + i, part) * Load(x + begin + i, part) * r, dw, part);
    });
  }
}

#define STRAKE_INSTANTIATE(T)                                                                      \
  template void RmsNormForward(const T*, const T*, const T*, int64_t, int64_t, float, T*, T*,      \
                               float*);                                                            \
  template void RmsNormBackwardInput(const T*, const T*, const T*, const float*, int64_t, int64_t, \
                                     bool, T*);                                                    \
  template void RmsNormBackwardWeight(const T*, const T*, const float*, int64_t, int64_t, int64_t, \
                                      int64_t, float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
