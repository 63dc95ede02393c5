#include "core/ops/norm/rms_norm_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Stores sum = x + residual, rounded, and returns the sum of its squares; without a residual,
// returns that of x.
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
void RmsNormForward(RmsNormForwardArgs<T> args, int64_t begin, int64_t end) {
  const int64_t columns = args.columns;
  const T* weight = args.weight;
  const float eps = static_cast<float>(args.eps);
  const float offset = static_cast<float>(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    const int64_t at = n * columns;
    const T* residual = args.residual == nullptr ? nullptr : args.residual + at;
    const float squares = AddResidual(args.x + at, residual, columns, args.sum + at);
    const T* row = (residual == nullptr ? args.x : args.sum) + at;
    T* y = args.y + at;
    const float r = 1 / __builtin_sqrtf(squares / columns + eps);
    ForEachVector(columns, [&](int64_t i, auto part) {
      Store(Load(row + i, part) * r * (Load(weight + i, part) + offset), y + i, part);
    });
    args.rstd[n] = r;
  }
}

template <typename T>
void RmsNormBackwardInput(RmsNormBackwardArgs<T> args, int64_t begin, int64_t end) {
  const int64_t columns = args.columns;
  const T* weight = args.weight;
  const float offset = static_cast<float>(args.weight_offset);
  const bool accumulate = args.accumulate_dx;
  for (int64_t n = begin; n < end; ++n) {
    const T *dy = args.dy + n * columns, *x = args.x + n * columns;
    T* dx = args.dx + n * columns;
    const float r = args.rstd[n];
    Vec sum{};
    ForEachVector(columns, [&](int64_t i, auto part) {
      sum += Load(dy + i, part) * (Load(weight + i, part) + offset) * Load(x + i, part);
    });
    const float mean = Sum(sum) * r / columns;
    ForEachVector(columns, [&](int64_t i, auto part) {
      const Vec g = Load(dy + i, part) * (Load(weight + i, part) + offset);
      const Vec value = r * (g - Load(x + i, part) * (r * mean));
      Store(accumulate ? Load(dx + i, part) + value : value, dx + i, part);
    });
  }
}

template <typename T>
void RmsNormBackwardWeight(RmsNormBackwardArgs<T> args, int64_t begin, int64_t end) {
  float* const dweight = args.dweight + begin;
  for (int64_t n = 0; n < args.rows; ++n) {
    const T *dy = args.dy + n * args.columns + begin, *x = args.x + n * args.columns + begin;
    const float r = args.rstd[n];
    ForEachVector(end - begin, [&](int64_t i, auto part) {
      float* dw = dweight + i;
      Store(Load(dw, part) + Load(dy + i, part) * Load(x + i, part) * r, dw, part);
    });
  }
}

#define STRAKE_INSTANTIATE(T)                                                   \
  template void RmsNormForward(RmsNormForwardArgs<T>, int64_t, int64_t);        \
  template void RmsNormBackwardInput(RmsNormBackwardArgs<T>, int64_t, int64_t); \
  template void RmsNormBackwardWeight(RmsNormBackwardArgs<T>, int64_t, int64_t);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
