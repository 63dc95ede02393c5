// What attention on the CPU is built of: small matrix products and a vector exp, on scratch tiles
// whose rows are padded to whole vectors, so that no loop has a ragged end.
#ifndef STRAKE_CORE_OPS_CPU_ATTENTION_TILE_H_
#define STRAKE_CORE_OPS_CPU_ATTENTION_TILE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "Eigen/Core"

namespace strake::cpu {

// The widest vector of the instruction set.
inline constexpr int kLanes = EIGEN_MAX_ALIGN_BYTES / sizeof(float);
typedef float Vec __attribute__((vector_size(EIGEN_MAX_ALIGN_BYTES), may_alias));
typedef int32_t IntVec __attribute__((vector_size(EIGEN_MAX_ALIGN_BYTES), may_alias));
typedef uint32_t WordVec __attribute__((vector_size(EIGEN_MAX_ALIGN_BYTES), may_alias));

// Rows of a product at a time. With two vectors to a row: half of the 32 registers of AVX-512, or
// of the 16 before it, are accumulators, enough to hide the latency of a multiply-add.
inline constexpr int kPanelRows = kLanes == 16 ? 8 : 4;

inline int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
inline int64_t RoundDown(int64_t n, int64_t multiple) { return n / multiple * multiple; }

inline Vec Broadcast(float x) { return x - Vec{}; }
inline Vec Load(const float* x) { return *reinterpret_cast<const Vec*>(x); }
inline void Store(Vec value, float* x) { *reinterpret_cast<Vec*>(x) = value; }
inline Vec LoadUnaligned(const float* x) {
  Vec value;
  std::memcpy(&value, x, sizeof(value));
  return value;
}
inline void StoreUnaligned(Vec value, float* x) { std::memcpy(x, &value, sizeof(value)); }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }

// By way of Eigen, whose reductions are shuffles.
inline auto Lanes(const Vec& x) {
  return Eigen::Map<const Eigen::Array<float, kLanes, 1>, Eigen::AlignedMax>(
      reinterpret_cast<const float*>(&x));
}

// exp(x) for x <= 88, within 2 units in the last place; exp(-87) below -87, NaN for NaN.
// x = n log 2 + r with |r| <= log(2) / 2; exp(r) by its Taylor series to r^7 / 7!, the rest of
// which is below 2^-26.
inline Vec Exp(Vec x) {
  const Vec lowest = Broadcast(-87);
  x = x < lowest ? lowest : x;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const Vec shifted = x * 1.44269504f + 12582912.0f;
  const Vec n = shifted - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = Broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n, by its exponent field. A product, so that NaN stays NaN.
  return p * reinterpret_cast<Vec>((reinterpret_cast<WordVec>(shifted) << 23) + 0x3f800000u);
}

template <bool kTransposed, int kVectors>
inline void Strip(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t depth,
                  bool accumulate, float* c, int64_t ldc) {
  Vec sum[kPanelRows][kVectors];
  for (int r = 0; r < kPanelRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = accumulate ? Load(c + r * ldc + v * kLanes) : Vec{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vec b_row[kVectors];
    for (int v = 0; v < kVectors; ++v) b_row[v] = Load(b + k * ldb + v * kLanes);
    for (int r = 0; r < kPanelRows; ++r) {
      const float a_rk = kTransposed ? a[k * lda + r] : a[r * lda + k];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += a_rk * b_row[v];
    }
  }
  for (int r = 0; r < kPanelRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Store(sum[r][v], c + r * ldc + v * kLanes);
  }
}

// c [kPanelRows, columns] = a b, or += with `accumulate`. a [kPanelRows, depth], or its transpose
// in memory; b [depth, columns]; columns a multiple of kLanes. b and c are aligned.
template <bool kTransposed>
inline void PanelProduct(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t columns,
                         int64_t depth, bool accumulate, float* c, int64_t ldc) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
    Strip<kTransposed, 2>(a, lda, b + j, ldb, depth, accumulate, c + j, ldc);
  }
  if (j < columns) Strip<kTransposed, 1>(a, lda, b + j, ldb, depth, accumulate, c + j, ldc);
}

// `value` in lanes below `count`, `other` in the rest; without kMasked, `value`.
template <bool kMasked>
inline Vec FirstLanes(int64_t count, Vec value, Vec other) {
  if constexpr (!kMasked) return value;
  IntVec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(count) ? value : other;
}

// Copies `rows` rows of `columns` floats times `scale`, and pads with zeros to [padded_rows,
// padded_columns]; `to` is aligned.
inline void PackRows(const float* from, int64_t stride, int64_t rows, int64_t columns, float scale,
                     int64_t padded_rows, int64_t padded_columns, float* to) {
  const int64_t whole = RoundDown(columns, kLanes);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += padded_columns) {
    for (int64_t c = 0; c < whole; c += kLanes) Store(LoadUnaligned(from + c) * scale, to + c);
    if (whole == columns) continue;
    Store(Vec{}, to + whole);
    for (int64_t c = whole; c < columns; ++c) to[c] = from[c] * scale;
  }
  std::fill(to, to + (padded_rows - rows) * padded_columns, 0.0f);
}

// The way back: rows of `columns` floats times `scale`, from rows of `padded_columns`.
inline void UnpackRows(const float* from, int64_t padded_columns, int64_t rows, int64_t columns,
                       float scale, float* to, int64_t stride) {
  const int64_t whole = RoundDown(columns, kLanes);
  for (int64_t r = 0; r < rows; ++r, from += padded_columns, to += stride) {
    for (int64_t c = 0; c < whole; c += kLanes) StoreUnaligned(Load(from + c) * scale, to + c);
    for (int64_t c = whole; c < columns; ++c) to[c] = from[c] * scale;
  }
}

template <int kOffset, int... kIndex>
inline Vec Interleave(Vec a, Vec b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kOffset + kIndex / 2 + kIndex % 2 * kLanes)...);
}

// to [columns, ld_to] = the transpose of from [rows, ld_from]; rows and columns multiples of
// kLanes. Interleaving the rows of the upper half with those of the lower, log2(kLanes) times,
// transposes a square.
inline void Transpose(const float* from, int64_t ld_from, int64_t rows, int64_t columns, float* to,
                      int64_t ld_to) {
  constexpr std::make_integer_sequence<int, kLanes> kAll;
  for (int64_t r = 0; r < rows; r += kLanes) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      Vec x[kLanes], y[kLanes];
      for (int i = 0; i < kLanes; ++i) x[i] = Load(from + (r + i) * ld_from + c);
      for (int round = 1; round < kLanes; round *= 2) {
        for (int i = 0; i < kLanes / 2; ++i) {
          y[2 * i] = Interleave<0>(x[i], x[i + kLanes / 2], kAll);
          y[2 * i + 1] = Interleave<kLanes / 2>(x[i], x[i + kLanes / 2], kAll);
        }
        std::swap(x, y);
      }
      for (int i = 0; i < kLanes; ++i) Store(x[i], to + (c + i) * ld_to + r);
    }
  }
}

}  // namespace strake::cpu

#endif  // STRAKE_CORE_OPS_CPU_ATTENTION_TILE_H_
