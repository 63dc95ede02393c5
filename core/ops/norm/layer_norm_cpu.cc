#include "core/ops/norm/layer_norm_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Stores sum = x + residual, as it is rounded, and returns its elements' sum; of x without
// residual.
template <typename T>
STRAKE_INLINE float AddResidual(const T* x, const T* residual, int64_t columns, T* sum) {
  Vec total{};
  ForEachVector(columns, [&](int64_t i, auto part) {
    Vec value = Load(x + i, part);
    if (residual != nullptr) {
      Store(value + Load(residual + i, part), sum + i, part);
      value = Load(sum + i, part);
    }
    total += value;
  });
  return Sum(total);
}

}  // namespace

template <typename T>
void LayerNormForward(const T* x, const T* residual, const T* weight, const T* bias, int64_t rows,
                      int64_t columns, float eps, T* sum, T* y, float* mean, float* rstd) {
  for (int64_t n = 0; n < rows; ++n) {
    const int64_t at = n * columns;
    const float m =
        AddResidual(x + at, residual == nullptr ? nullptr : residual + at, columns, sum + at) /
        columns;
    const T* row = (residual == nullptr ? x : sum) + at;
    Vec squares{};
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec centred = Masked(Load(row + i, part) - m, part, Vec{});
      squares += centred * centred;
    });
    const float r = 1 / __builtin_sqrtf(Sum(squares) / columns + eps);
    ForEachVector(columns, [&](int64_t i, auto part) {
      Store((Load(row + i, part) - m) * r * Load(weight + i, part) + Load(bias + i, part),
            y + at + i, part);
    });
    mean[n] = m;
    rstd[n] = r;
  }
}

template <typename T>
void LayerNormBackwardInput(const T* dy, const T* x, const T* weight, const float* mean,
                            const float* rstd, int64_t rows, int64_t columns, bool accumulate_dx,
                            T* dx) {
  for (int64_t n = 0; n < rows; ++n, dy += columns, x += columns, dx += columns) {
    const float m = mean[n], r = rstd[n];
    Vec sum_g{}, sum_g_xhat{};
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec g = Load(dy + i, part) * Load(weight + i, part);
      sum_g += g;
      sum_g_xhat += g * ((Load(x + i, part) - m) * r);
    });
    const float mean_g = Sum(sum_g) / columns, mean_g_xhat = Sum(sum_g_xhat) / columns;
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec g = Load(dy + i, part) * Load(weight + i, part);
      const Vec value = r * (g - mean_g - (Load(x + i, part) - m) * r * mean_g_xhat);
      Store(accumulate_dx ? Load(dx + i, part) + value : value, dx + i, part);
    });
  }
}

template <typename T>
void LayerNormBackwardWeight(const T* dy, const T* x, const float* mean, const float* rstd,
                             int64_t rows, int64_t columns, int64_t begin, int64_t end,
                             float* dweight, float* dbias) {
  for (int64_t n = 0; n < rows; ++n, dy += columns, x += columns) {
    const float m = mean[n], r = rstd[n];
    ForEachVector(end - begin, [&](int64_t i, auto part) {
      float *dw = dweight + begin + i, *db = dbias + begin + i;
      const Vec d = Load(dy + begin + i, part);
      Store(Load(dw, part) + d * (Load(x + begin + i, part) - m) * r, dw, part);
      Store(Load(db, part) + d, db, part);
    });
  }
}

#define STRAKE_INSTANTIATE(T)                                                                     \
  template void LayerNormForward(const T*, const T*, const T*, const T*, int64_t, int64_t, float, \
                                 T*, T*, float*, float*);                                         \
  template void LayerNormBackwardInput(const T*, const T*, const T*, const float*, const float*,  \
                                       int64_t, int64_t, bool, T*);                               \
  template void LayerNormBackwardWeight(const T*, const T*, const float*, const float*, int64_t,  \
                                        int64_t, int64_t, int64_t, float*, float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
