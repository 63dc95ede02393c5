// Vectors of f32, and loads and stores of f32 and bf16, for the CPU's kernels. See isa.h for how a
// source that includes this is compiled, and what else it may include.
//
// The compiler may fuse a product and a sum. So bits depend on the set of instructions, and on
// nothing else.
#ifndef STRAKE_CORE_OPS_CPU_SIMD_H_
#define STRAKE_CORE_OPS_CPU_SIMD_H_

#include <cstdint>
#include <utility>

#include "core/base/dtype.h"

#ifndef STRAKE_CPU_ISA
#error "only sources of strake_cpu_kernel (core/cc.bzl) include this"
#endif

namespace strake::cpu::STRAKE_CPU_ISA {

// STRAKE_CPU_VECTOR_BYTES is the size of a register.
inline constexpr int kLanes = STRAKE_CPU_VECTOR_BYTES / sizeof(float);
typedef float Vec __attribute__((vector_size(STRAKE_CPU_VECTOR_BYTES), may_alias));
typedef int32_t IntVec __attribute__((vector_size(STRAKE_CPU_VECTOR_BYTES), may_alias));
typedef uint32_t WordVec __attribute__((vector_size(STRAKE_CPU_VECTOR_BYTES), may_alias));
typedef uint16_t HalfVec __attribute__((vector_size(STRAKE_CPU_VECTOR_BYTES / 2), may_alias));

#define STRAKE_INLINE inline __attribute__((always_inline))

// Unrolls the next loop, which runs over a constant number of vectors of an array. Once no variable
// index is left, the array stays in registers.
#ifdef __clang__
#define STRAKE_UNROLL _Pragma("unroll")
#else
#define STRAKE_UNROLL _Pragma("GCC unroll 32")
#endif

STRAKE_INLINE constexpr int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
STRAKE_INLINE constexpr int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }
STRAKE_INLINE constexpr int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

STRAKE_INLINE Vec Broadcast(float x) { return x - Vec{}; }
STRAKE_INLINE Vec Max(Vec a, Vec b) { return a > b ? a : b; }

// `x` is aligned.
STRAKE_INLINE Vec Load(const float* x) { return *reinterpret_cast<const Vec*>(x); }
STRAKE_INLINE void Store(Vec value, float* x) { *reinterpret_cast<Vec*>(x) = value; }

STRAKE_INLINE Vec LoadUnaligned(const float* x) {
  Vec value;
  __builtin_memcpy(&value, x, sizeof(value));
  return value;
}
STRAKE_INLINE void StoreUnaligned(Vec value, float* x) {
  __builtin_memcpy(x, &value, sizeof(value));
}

// Zero-extends each element to 32 bits.
STRAKE_INLINE WordVec Widen(HalfVec bits) {
#if STRAKE_CPU_VECTOR_BYTES == 32 && !defined(__clang__)
  // gcc 12 would widen two halves and join them.
  typedef int16_t Shorts __attribute__((vector_size(STRAKE_CPU_VECTOR_BYTES / 2)));
  return reinterpret_cast<WordVec>(__builtin_ia32_pmovzxwd256(reinterpret_cast<Shorts>(bits)));
#else
  return __builtin_convertvector(bits, WordVec);
#endif
}

STRAKE_INLINE Vec LoadUnaligned(const Bf16* x) {
  HalfVec bits;
  __builtin_memcpy(&bits, x, sizeof(bits));
  return reinterpret_cast<Vec>(Widen(bits) << 16);
}
// Rounds to nearest even; NaN stays NaN, as in Bf16(float).
STRAKE_INLINE void StoreUnaligned(Vec value, Bf16* x) {
  const WordVec word = reinterpret_cast<WordVec>(value);
  const WordVec rounded = word + 0x7fffu + ((word >> 16) & 1u);
  // NOLINTNEXTLINE(misc-redundant-expression): false in the lanes that are NaN.
  const WordVec result = value == value ? rounded : (word | 0x400000u);
  const HalfVec bits = __builtin_convertvector(result >> 16, HalfVec);
  __builtin_memcpy(x, &bits, sizeof(bits));
}

STRAKE_INLINE float ToFloat(float x) { return x; }
STRAKE_INLINE float ToFloat(Bf16 x) {
  const uint32_t word = static_cast<uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &word, sizeof(value));
  return value;
}

// The part of a vector that exists: all of it, or the first `count` lanes. The other lanes are
// loaded as 0 and not stored.
struct Whole {
  static constexpr int64_t count = kLanes;
};
struct First {
  int64_t count;
};

template <typename T>
STRAKE_INLINE Vec Load(const T* x, Whole) {
  return LoadUnaligned(x);
}
template <typename T>
STRAKE_INLINE void Store(Vec value, T* x, Whole) {
  StoreUnaligned(value, x);
}
template <typename T>
STRAKE_INLINE Vec Load(const T* x, First first) {
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < first.count; ++i) lanes[i] = x[i];
  return LoadUnaligned(lanes);
}
template <typename T>
STRAKE_INLINE void Store(Vec value, T* x, First first) {
  T lanes[kLanes];
  StoreUnaligned(value, lanes);
  for (int64_t i = 0; i < first.count; ++i) x[i] = lanes[i];
}

// Calls body(i, Whole()) for each whole vector of [0, size), and body(i, First{count}) for the
// rest.
template <typename Body>
STRAKE_INLINE void ForEachVector(int64_t size, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(i, Whole());
  if (i < size) body(i, First{size - i});
}

// The sum of the lanes, added in halves: the same order on every call.
STRAKE_INLINE float Sum(Vec x) {
  float lanes[kLanes];
  __builtin_memcpy(lanes, &x, sizeof(x));
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}
STRAKE_INLINE float Largest(Vec x) {
  float lanes[kLanes];
  __builtin_memcpy(lanes, &x, sizeof(x));
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    }
  }
  return lanes[0];
}

template <int kOffset, int... kIndex>
STRAKE_INLINE Vec Interleave(Vec a, Vec b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kOffset + kIndex / 2 + kIndex % 2 * kLanes)...);
}

// Transposes x, whose vectors are rows: interleaves the rows of the upper half with those of the
// lower half, log2(kLanes) times.
STRAKE_INLINE void TransposeSquare(Vec (&x)[kLanes]) {
  constexpr std::make_integer_sequence<int, kLanes> kAll;
  STRAKE_UNROLL for (int round = 1; round < kLanes; round *= 2) {
    Vec y[kLanes];
    STRAKE_UNROLL for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = Interleave<0>(x[i], x[i + kLanes / 2], kAll);
      y[2 * i + 1] = Interleave<kLanes / 2>(x[i], x[i + kLanes / 2], kAll);
    }
    STRAKE_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

// `value` in lanes below `count`, `other` in the rest. Without kMasked, `value` in all lanes.
template <bool kMasked>
STRAKE_INLINE Vec FirstLanes(int64_t count, Vec value, Vec other) {
  if constexpr (!kMasked) return value;
  IntVec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(count) ? value : other;
}
STRAKE_INLINE Vec Masked(Vec value, Whole, Vec) { return value; }
STRAKE_INLINE Vec Masked(Vec value, First first, Vec other) {
  return FirstLanes<true>(first.count, value, other);
}

// exp(x) = power (1 + r series), for x from -87 to 88. Method: x = n log 2 + r with
// |r| <= log(2) / 2, and power = 2^n; exp(r) by its Taylor series to r^7 / 7!, whose remainder is
// below 2^-26.
struct ExpParts {
  STRAKE_INLINE explicit ExpParts(Vec x) {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const Vec shifted = x * 1.44269504f + 12582912.0f;
    const Vec n = shifted - 12582912.0f;
    r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = Broadcast(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    series = p * r + 1.0f;
    // Made from its exponent field.
    power = reinterpret_cast<Vec>((reinterpret_cast<WordVec>(shifted) << 23) + 0x3f800000u);
  }
  Vec r, series, power;
};

// exp(x) for x <= 88, within 2 units in the last place; exp(-87) for x below -87, NaN for NaN.
STRAKE_INLINE Vec Exp(Vec x) {
  const Vec lowest = Broadcast(-87);
  const ExpParts parts(x < lowest ? lowest : x);
  // The power is a factor, and not added to the exponent, so that NaN stays NaN.
  return (parts.series * parts.r + 1.0f) * parts.power;
}

// tanh(x), within 4 units in the last place; NaN for NaN. Method: e / (e + 2) for
// e = exp(2 |x|) - 1, which is computed without exp(2 |x|), so that nothing cancels near 0.
STRAKE_INLINE Vec Tanh(Vec x) {
  const WordVec sign = reinterpret_cast<WordVec>(x) & 0x80000000u;
  const Vec size = reinterpret_cast<Vec>(reinterpret_cast<WordVec>(x) ^ sign);
  const Vec highest = Broadcast(10);  // tanh rounds to 1 from 9.1 on
  const ExpParts parts(2 * (size > highest ? highest : size));
  const Vec e = parts.power * (parts.series * parts.r) + (parts.power - 1.0f);
  return reinterpret_cast<Vec>(reinterpret_cast<WordVec>(e / (e + 2.0f)) | sign);
}

// 1 / (1 + exp(-x)), 0 below -88; and 1 minus that without cancellation, 0 above 87.
struct Sigmoid {
  STRAKE_INLINE explicit Sigmoid(Vec x) {
    const Vec lowest = Broadcast(-88);
    const Vec e = Exp(-(x < lowest ? lowest : x));
    value = 1 / (1 + e);
    complement = x > Broadcast(87) ? Vec{} : e * value;
    value = x < lowest ? Vec{} : value;
  }
  Vec value, complement;
};

}  // namespace strake::cpu::STRAKE_CPU_ISA

#endif  // STRAKE_CORE_OPS_CPU_SIMD_H_
