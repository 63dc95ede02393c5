#include "core/ops/qk_norm/qk_norm_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

template <typename T>
STRAKE_INLINE float SumSquares(const T* x, int64_t columns) {
  Vec squares{};
  ForEachVector(columns, [&](int64_t i, auto part) {
    const Vec value = Load(x + i, part);
    squares += value * value;
  });
  return Sum(squares);
}

// sum_i dy_i (offset + w_i) x_i
template <typename T>
STRAKE_INLINE float WeightedDot(const T* dy, const T* x, const T* weight, float offset,
                                int64_t columns) {
  Vec sum{};
  ForEachVector(columns, [&](int64_t i, auto part) {
    sum += Load(dy + i, part) * (Load(weight + i, part) + offset) * Load(x + i, part);
  });
  return Sum(sum);
}

}  // namespace

template <typename T>
void QkNormForward(QkNormForwardArgs<T> args, int64_t begin, int64_t end) {
  const float eps = static_cast<float>(args.eps);
  const float offset = static_cast<float>(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    T* const row = args.qkv + n * args.columns;
    if (args.raw != nullptr) {
      __builtin_memcpy(args.raw + n * args.num_normalized, row, args.num_normalized * sizeof(T));
    }
    for (const QkNormPart<T>& part : args.parts) {
      const int64_t size = part.group_columns;
      const T* const weight = part.weight;
      for (int64_t g = 0; g < part.num_groups; ++g) {
        const int64_t group = n * args.num_groups + part.first_group + g;
        T* const x = row + part.first_column + g * size;
        const float squares = args.sums != nullptr ? args.sums[group] : SumSquares(x, size);
        const float r = 1 / __builtin_sqrtf(squares / (args.num_ranks * size) + eps);
        ForEachVector(size, [&](int64_t i, auto lanes) {
          Store(Load(x + i, lanes) * r * (Load(weight + i, lanes) + offset), x + i, lanes);
        });
        args.rstd[group] = r;
      }
    }
  }
}

template <typename T>
void QkNormBackwardInput(QkNormBackwardArgs<T> args, int64_t begin, int64_t end) {
  const float offset = static_cast<float>(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    for (const QkNormPart<T>& part : args.parts) {
      const int64_t size = part.group_columns;
      const T* const weight = part.weight;
      for (int64_t g = 0; g < part.num_groups; ++g) {
        const int64_t column = part.first_column + g * size;
        const int64_t group = n * args.num_groups + part.first_group + g;
        T* const dy = args.dqkv + n * args.columns + column;
        const T* const x = args.raw + n * args.num_normalized + column;
        const float r = args.rstd[group];
        const float sum =
            args.sums != nullptr ? args.sums[group] : WeightedDot(dy, x, weight, offset, size);
        const float x_factor = r * r * sum / (args.num_ranks * size);
        ForEachVector(size, [&](int64_t i, auto lanes) {
          const Vec p = Load(dy + i, lanes) * (Load(weight + i, lanes) + offset);
          Store(r * (p - Load(x + i, lanes) * x_factor), dy + i, lanes);
        });
      }
    }
  }
}

template <typename T>
void QkNormBackwardWeight(QkNormBackwardArgs<T> args, int part_index, int64_t begin, int64_t end) {
  const QkNormPart<T>& part = args.parts[part_index];
  float* const dweight = args.dweights[part_index] + begin;
  for (int64_t n = 0; n < args.rows; ++n) {
    for (int64_t g = 0; g < part.num_groups; ++g) {
      const int64_t column = part.first_column + g * part.group_columns + begin;
      const T* const dy = args.dqkv + n * args.columns + column;
      const T* const x = args.raw + n * args.num_normalized + column;
      const float r = args.rstd[n * args.num_groups + part.first_group + g];
      ForEachVector(end - begin, [&](int64_t i, auto lanes) {
        float* const dw = dweight + i;
        Store(Load(dw, lanes) + Load(dy + i, lanes) * Load(x + i, lanes) * r, dw, lanes);
      });
    }
  }
}

template <typename T>
void QkNormSums(QkNormSumsArgs<T> args, int64_t begin, int64_t end) {
  const float offset = static_cast<float>(args.weight_offset);
  for (int64_t n = begin; n < end; ++n) {
    for (int p = 0; p < 2; ++p) {
      const QkNormPart<T>& part = args.parts[p];
      const int64_t size = part.group_columns;
      const T* const a = args.a + n * args.a_columns + part.first_column;
      float& sum = args.sums[2 * n + p];
      if (args.b == nullptr) {
        sum = SumSquares(a, size);
      } else {
        const T* const b = args.b + n * args.b_columns + part.first_column;
        sum = WeightedDot(a, b, part.weight, offset, size);
      }
    }
  }
}

#define STRAKE_INSTANTIATE(T)                                                       \
  template void QkNormForward(QkNormForwardArgs<T>, int64_t, int64_t);              \
  template void QkNormBackwardInput(QkNormBackwardArgs<T>, int64_t, int64_t);       \
  template void QkNormBackwardWeight(QkNormBackwardArgs<T>, int, int64_t, int64_t); \
  template void QkNormSums(QkNormSumsArgs<T>, int64_t, int64_t);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
