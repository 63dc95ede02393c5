// The parts of attention on the CPU: small matrix products and a vector exp, on scratch tiles whose
// rows are padded to whole vectors, so that no loop has a ragged end.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_TILE_CPU_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_TILE_CPU_H_

#include <cstdint>

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

// Rows that a product computes at a time. With two vectors per row, half of the 32 registers of
// AVX-512 (or of the 16 before it) are accumulators, enough to hide the latency of a multiply-add.
inline constexpr int kPanelRows = kLanes == 16 ? 8 : 4;

STRAKE_INLINE void Fill(float* x, int64_t size, float value) {
  for (int64_t i = 0; i < size; ++i) x[i] = value;
}

template <bool kTransposed, int kVectors>
inline void Strip(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t depth,
                  bool accumulate, float* c, int64_t ldc) {
  Vec sum[kPanelRows][kVectors] = {};
  if (accumulate) {
    STRAKE_UNROLL for (int r = 0; r < kPanelRows; ++r) {
      STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) sum[r][v] = Load(c + r * ldc + v * kLanes);
    }
  }
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k) {
    Vec b_row[kVectors];
    STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) b_row[v] = Load(b + k * ldb + v * kLanes);
    STRAKE_UNROLL for (int r = 0; r < kPanelRows; ++r) {
      const float a_rk = kTransposed ? a[k * lda + r] : a[r * lda + k];
      STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) sum[r][v] += a_rk * b_row[v];
    }
  }
  STRAKE_UNROLL for (int r = 0; r < kPanelRows; ++r) {
    STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) Store(sum[r][v], c + r * ldc + v * kLanes);
  }
}

// Rows whose starts are `stride` elements apart.
struct ConstPanel {
  const float* data;
  int64_t stride;
};
struct Panel {
  float* data;
  int64_t stride;
};

// c [kPanelRows, columns] = a b, or += with `accumulate`. a is [kPanelRows, depth], or stored
// transposed; b is [depth, columns]; columns is a multiple of kLanes. b and c are aligned.
template <bool kTransposed>
inline void PanelProduct(ConstPanel a, ConstPanel b, int64_t columns, int64_t depth,
                         bool accumulate, Panel c) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes) {
    Strip<kTransposed, 2>(a.data, a.stride, b.data + j, b.stride, depth, accumulate, c.data + j,
                          c.stride);
  }
  if (j < columns) {
    Strip<kTransposed, 1>(a.data, a.stride, b.data + j, b.stride, depth, accumulate, c.data + j,
                          c.stride);
  }
}

// Copies `rows` rows of `columns` elements times `scale`, and pads with zeros to [padded_rows,
// padded_columns]; `to` is aligned.
template <typename T>
inline void PackRows(const T* from, int64_t stride, int64_t rows, int64_t columns, float scale,
                     int64_t padded_rows, int64_t padded_columns, float* to) {
  const int64_t loaded = RoundUp(columns, kLanes);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += padded_columns) {
    ForEachVector(columns,
                  [&](int64_t c, auto part) { Store(Load(from + c, part) * scale, to + c); });
    Fill(to + loaded, padded_columns - loaded, 0);
  }
  Fill(to, (padded_rows - rows) * padded_columns, 0);
}

// The reverse copy: rows of `columns` elements times `scale`, from rows of `padded_columns`. With
// `accumulate`, adds to the rows.
template <typename T>
inline void UnpackRows(const float* from, int64_t padded_columns, int64_t rows, int64_t columns,
                       float scale, T* to, int64_t stride, bool accumulate = false) {
  for (int64_t r = 0; r < rows; ++r, from += padded_columns, to += stride) {
    ForEachVector(columns, [&](int64_t c, auto part) {
      Vec x = Load(from + c) * scale;
      if (accumulate) x += Load(to + c, part);
      Store(x, to + c, part);
    });
  }
}

// to [columns, ld_to] = the transpose of from [rows, ld_from]; rows and columns are multiples of
// kLanes. Not inlined: the loops of a caller would take the registers of its addresses.
__attribute__((noinline)) inline void Transpose(const float* from, int64_t ld_from, int64_t rows,
                                                int64_t columns, float* to, int64_t ld_to) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      Vec x[kLanes];
      STRAKE_UNROLL for (int i = 0; i < kLanes; ++i) x[i] = Load(from + (r + i) * ld_from + c);
      TransposeSquare(x);
      STRAKE_UNROLL for (int i = 0; i < kLanes; ++i) Store(x[i], to + (c + i) * ld_to + r);
    }
  }
}

}  // namespace strake::cpu::STRAKE_CPU_ISA

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_TILE_CPU_H_
