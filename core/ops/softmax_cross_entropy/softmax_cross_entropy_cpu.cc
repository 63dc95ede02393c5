#include "core/ops/softmax_cross_entropy/softmax_cross_entropy_cpu.h"

#include "core/base/no_target.h"
#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

template <typename T>
STRAKE_INLINE float RowMax(const T* row, int64_t size) {
  const Vec lowest = Broadcast(-__builtin_inff());
  Vec max = lowest;
  ForEachVector(size, [&](int64_t i, auto part) {
    max = Max(max, Masked(Load(row + i, part), part, lowest));
  });
  return Largest(max);
}

// Sums in f32 by lanes: each lane adds 3000 or 6000 of the 50000 terms of a row. Any NaN makes it
// NaN.
template <typename T>
STRAKE_INLINE float ExpSum(const T* row, int64_t size, float shift) {
  Vec sum{};
  ForEachVector(size, [&](int64_t i, auto part) {
    sum += Masked(Exp(Load(row + i, part) - shift), part, Vec{});
  });
  return Sum(sum);
}

// The slope of a soft cap c as a function of its result z, 1 - (z / c)^2, without cancellation.
struct Capped {
  float cap, inverse_square;
  STRAKE_INLINE Vec Slope(Vec z) const { return (cap - z) * (cap + z) * inverse_square; }
  STRAKE_INLINE Vec Times(Vec gradient, Vec z) const { return gradient * Slope(z); }
};
struct NotCapped {
  STRAKE_INLINE Vec Times(Vec gradient, Vec) const { return gradient; }
};

template <typename T>
STRAKE_INLINE void SetZero(int64_t size, T* row) {
  ForEachVector(size, [&](int64_t i, auto part) { Store(Vec{}, row + i, part); });
}

template <typename T, typename Cap>
STRAKE_INLINE void GradientRow(int64_t target, float lse, int64_t columns, int64_t num_tokens,
                               float scale, const Cap& cap, T* row) {
  const bool has_target = target >= 0 && target < num_tokens;
  // Computes the target's gradient before the logit is overwritten, and rounds it once.
  Vec at_target{};
  if (has_target) {
    const Vec logit = Broadcast(ToFloat(row[target]));
    at_target = cap.Times((Exp(logit - lse) - 1) * scale, logit);
  }
  ForEachVector(num_tokens, [&](int64_t i, auto part) {
    const Vec logits = Load(row + i, part);
    Store(cap.Times(Exp(logits - lse) * scale, logits), row + i, part);
  });
  if (has_target) Store(at_target, row + target, First{1});
  SetZero(columns - num_tokens, row + num_tokens);
}

}  // namespace

template <typename T>
void SoftmaxCrossEntropyForward(const T* logits, const int32_t* targets, int64_t rows,
                                int64_t columns, int64_t vocab_size, float* loss, float* lse) {
  for (int64_t n = 0; n < rows; ++n) {
    const T* row = logits + n * columns;
    const float max = RowMax(row, vocab_size);
    const float log_sum = __builtin_logf(ExpSum(row, vocab_size, max));
    lse[n] = max + log_sum;
    // Avoids lse - logit: both may be large, and so may be their rounding errors.
    loss[n] = targets[n] == kNoTarget ? 0 : log_sum - (ToFloat(row[targets[n]]) - max);
  }
}

template <typename T>
void SoftmaxSliceMax(const T* logits, int64_t rows, int64_t columns, int64_t num_tokens,
                     float* max) {
  for (int64_t n = 0; n < rows; ++n) max[n] = RowMax(logits + n * columns, num_tokens);
}

template <typename T>
void SoftmaxSliceSums(SoftmaxSliceSumsArgs<T> args, int64_t begin, int64_t end) {
  const int64_t num_tokens = args.slice.NumTokens(args.columns);
  float *const exp_sum = args.sums, *const shifted_target = args.sums + args.rows;
  for (int64_t n = begin; n < end; ++n) {
    const T* row = args.logits + n * args.columns;
    const float max = args.max[n];
    const int64_t target = args.targets[n] - args.slice.begin;
    exp_sum[n] = ExpSum(row, num_tokens, max);
    shifted_target[n] = target >= 0 && target < num_tokens ? ToFloat(row[target]) - max : 0.0f;
  }
}

template <typename T>
void SoftmaxCrossEntropyBackward(const int32_t* targets, const float* lse, int64_t rows,
                                 int64_t columns, int64_t first, int64_t num_tokens, float scale,
                                 float softcap, T* logits) {
  const Capped capped = {softcap, 1 / (softcap * softcap)};
  for (int64_t n = 0; n < rows; ++n) {
    T* row = logits + n * columns;
    if (targets[n] == kNoTarget) {
      SetZero(columns, row);
    } else if (softcap == 0) {
      GradientRow(targets[n] - first, lse[n], columns, num_tokens, scale, NotCapped(), row);
    } else {
      GradientRow(targets[n] - first, lse[n], columns, num_tokens, scale, capped, row);
    }
  }
}

template <typename T>
void SoftmaxCrossEntropyForwardBackward(const int32_t* targets, int64_t rows, int64_t columns,
                                        int64_t vocab_size, float scale, float softcap, T* logits,
                                        float* loss, float* lse) {
  for (int64_t n = 0; n < rows; ++n) {
    T* row = logits + n * columns;
    SoftmaxCrossEntropyForward(row, targets + n, 1, columns, vocab_size, loss + n, lse + n);
    SoftmaxCrossEntropyBackward(targets + n, lse + n, 1, columns, 0, vocab_size, scale, softcap,
                                row);
  }
}

#define STRAKE_INSTANTIATE(T)                                                                   \
  template void SoftmaxCrossEntropyForward(const T*, const int32_t*, int64_t, int64_t, int64_t, \
                                           float*, float*);                                     \
  template void SoftmaxSliceMax(const T*, int64_t, int64_t, int64_t, float*);                   \
  template void SoftmaxSliceSums(SoftmaxSliceSumsArgs<T>, int64_t, int64_t);                    \
  template void SoftmaxCrossEntropyBackward(const int32_t*, const float*, int64_t, int64_t,     \
                                            int64_t, int64_t, float, float, T*);                \
  template void SoftmaxCrossEntropyForwardBackward(const int32_t*, int64_t, int64_t, int64_t,   \
                                                   float, float, T*, float*, float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
