#include "core/ops/norm/layer_norm_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Stores sum = x + residual, rounded, and returns the sum of its elements; without a residual,
// returns the sum of x's elements.
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
void LayerNormForward(LayerNormForwardArgs<T> args, int64_t begin, int64_t end) {
  const int64_t columns = args.columns;
  const T *weight = args.weight, *bias = args.bias;
  const float eps = static_cast<float>(args.eps);
  for (int64_t n = begin; n < end; ++n) {
    const int64_t at = n * columns;
    const T* residual = args.residual == nullptr ? nullptr : args.residual + at;
    const float m = AddResidual(args.x + at, residual, columns, args.sum + at) / columns;
    const T* row = (residual == nullptr ? args.x : args.sum) + at;
    T* y = args.y + at;
    Vec squares{};
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec centred = Masked(Load(row + i, part) - m, part, Vec{});
      squares += centred * centred;
    });
    const float r = 1 / __builtin_sqrtf(Sum(squares) / columns + eps);
    ForEachVector(columns, [&](int64_t i, auto part) {
      Store((Load(row + i, part) - m) * r * Load(weight + i, part) + Load(bias + i, part), y + i,
            part);
    });
    args.mean[n] = m;
    args.rstd[n] = r;
  }
}

template <typename T>
void LayerNormBackwardInput(LayerNormBackwardArgs<T> args, int64_t begin, int64_t end) {
  const int64_t columns = args.columns;
  const T* weight = args.weight;
  const bool accumulate = args.accumulate_dx;
  for (int64_t n = begin; n < end; ++n) {
    const T *dy = args.dy + n * columns, *x = args.x + n * columns;
    T* dx = args.dx + n * columns;
    const float m = args.mean[n], r = args.rstd[n];
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
      Store(accumulate ? Load(dx + i, part) + value : value, dx + i, part);
    });
  }
}

template <typename T>
void LayerNormBackwardWeight(LayerNormBackwardArgs<T> args, int64_t begin, int64_t end) {
  float *const dweight = args.dweight + begin, *const dbias = args.dbias + begin;
  for (int64_t n = 0; n < args.rows; ++n) {
    const T *dy = args.dy + n * args.columns + begin, *x = args.x + n * args.columns + begin;
    const float m = args.mean[n], r = args.rstd[n];
    ForEachVector(end - begin, [&](int64_t i, auto part) {
      float *dw = dweight + i, *db = dbias + i;
      const Vec d = Load(dy + i, part);
      Store(Load(dw, part) + d * (Load(x + i, part) - m) * r, dw, part);
      Store(Load(db, part) + d, db, part);
    });
  }
}

#define STRAKE_INSTANTIATE(T)                                                       \
  template void LayerNormForward(LayerNormForwardArgs<T>, int64_t, int64_t);        \
  template void LayerNormBackwardInput(LayerNormBackwardArgs<T>, int64_t, int64_t); \
  template void LayerNormBackwardWeight(LayerNormBackwardArgs<T>, int64_t, int64_t);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
