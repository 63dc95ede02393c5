#include "core/ops/matmul/few_rows_matmul_cpu.h"

#include <utility>

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// The hardware does not foresee the jumps between rows of b. They are loaded into the L2 cache,
// since the L1 cache holds the sums.
STRAKE_INLINE void Prefetch(const void* x) { __builtin_prefetch(x, /*write=*/0, /*locality=*/2); }

// ---- b [k, n] ----

// Rows of a whose sums share the registers. Where there are more, the next ones find the same piece
// of b in a cache.
constexpr int kMaxRows = kLanes == 16 ? 8 : 4;
// Rows of b per pass over the sums.
constexpr int64_t kDepth = 8;

// Sums of some rows and columns, which stay in a cache while all of k is added to them.
struct Sums {
  float* data;  // aligned
  int64_t stride;
  float* At(int64_t row, int64_t column) const { return data + row * stride + column; }
};

// sums += the sum over kCount rows of b, each times its factor for each row of a.
template <int kRows, int kCount, int kVectors, typename T, typename Part>
STRAKE_INLINE void AddToVectors(const float (&factors)[kRows][kCount], const T* b, int64_t stride,
                                Part part, const Sums& sums) {
  Vec sum[kRows][kVectors];
  STRAKE_UNROLL for (int r = 0; r < kRows; ++r) {
    STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) sum[r][v] = Load(sums.At(r, v * kLanes));
  }
  STRAKE_UNROLL for (int i = 0; i < kCount; ++i) {
    Vec row[kVectors];
    STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) {
      row[v] = Load(b + i * stride + v * kLanes, part);
      Prefetch(b + (kDepth + i) * stride + v * kLanes);
    }
    STRAKE_UNROLL for (int r = 0; r < kRows; ++r) {
      STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) sum[r][v] += factors[r][i] * row[v];
    }
  }
  STRAKE_UNROLL for (int r = 0; r < kRows; ++r) {
    STRAKE_UNROLL for (int v = 0; v < kVectors; ++v) Store(sum[r][v], sums.At(r, v * kLanes));
  }
}

template <int kRows, int kCount, typename T, typename C>
STRAKE_INLINE void AddRows(const FewRowsProduct<T, C>& p, int64_t row, int64_t i, int64_t column,
                           int64_t columns, const Sums& sums) {
  float factors[kRows][kCount];
  for (int r = 0; r < kRows; ++r) {
    for (int d = 0; d < kCount; ++d) factors[r][d] = p.a[(row + r) * p.k + i + d];
  }
  const T* b = p.b + i * p.n + column;
  const auto sums_at = [&](int64_t j) { return Sums{sums.At(row, j), sums.stride}; };
  constexpr int kVectors = kRows == 1 ? 1 : 2;
  int64_t j = 0;
  for (; j + kVectors * kLanes <= columns; j += kVectors * kLanes) {
    AddToVectors<kRows, kCount, kVectors>(factors, b + j, p.n, Whole(), sums_at(j));
  }
  ForEachVector(columns - j, [&](int64_t v, auto part) {
    AddToVectors<kRows, kCount, 1>(factors, b + j + v, p.n, part, sums_at(j + v));
  });
}

// Adds kCount rows of b, from row i on, to the sums of rows [row, m) of a.
template <int kRows, int kCount, typename T, typename C>
STRAKE_INLINE void AddAllRows(const FewRowsProduct<T, C>& p, int64_t row, int64_t i, int64_t column,
                              int64_t columns, const Sums& sums) {
  for (; row + kRows <= p.m; row += kRows) {
    AddRows<kRows, kCount>(p, row, i, column, columns, sums);
  }
  if constexpr (kRows > 1) {
    constexpr int kFewer = kRows == 4 ? 3 : (kRows + 1) / 2;
    AddAllRows<kFewer, kCount>(p, row, i, column, columns, sums);
  }
}

template <typename T, typename C>
STRAKE_INLINE void MultiplyColumns(const FewRowsProduct<T, C>& p, int64_t column, int64_t columns,
                                   const Sums& sums) {
  const auto for_each_vector = [&](const auto& body) {
    for (int64_t r = 0; r < p.m; ++r) {
      ForEachVector(columns, [&](int64_t j, auto part) {
        body(p.c + r * p.n + column + j, sums.At(r, j), part);
      });
    }
  };
  for_each_vector(
      [&](const C* c, float* sum, auto part) { Store(p.accumulate ? Load(c, part) : Vec{}, sum); });
  int64_t i = 0;
  for (; i + kDepth <= p.k; i += kDepth) {
    AddAllRows<kMaxRows, kDepth>(p, 0, i, column, columns, sums);
  }
  for (; i < p.k; ++i) AddAllRows<kMaxRows, 1>(p, 0, i, column, columns, sums);
  for_each_vector([&](C* c, const float* sum, auto part) { Store(Load(sum), c, part); });
}

template <typename T, typename C>
void Multiply(const FewRowsProduct<T, C>& p, int64_t begin, int64_t end) {
  constexpr int64_t kSums = kMaxFewRows * 1024, kMaxColumns = 2048;
  static_assert(kMaxColumns * kMaxFewRows / 2 <= kSums);
  alignas(STRAKE_CPU_VECTOR_BYTES) float memory[kSums];
  const Sums sums = {memory, p.m <= kMaxFewRows / 2 ? kMaxColumns : kSums / kMaxFewRows};
  for (; begin < end; begin += sums.stride) {
    MultiplyColumns(p, begin, Min(sums.stride, end - begin), sums);
  }
}

// ---- b [n, k] ----

// Products of rows of a and rows of b whose sums share the registers. They are enough to hide the
// latency of the additions.
constexpr int kDots = kLanes;

// The source of lane `lane` of a half of segments: each of two vectors has segments of kSize lanes,
// and gives the lower or the upper half of each.
template <int kSize, bool kUpper>
constexpr int HalfSource(int lane) {
  constexpr int kHalf = kSize / 2, kSegments = kLanes / kSize;
  const int segment = lane / kHalf;
  return segment / kSegments * kLanes + segment % kSegments * kSize + lane % kHalf +
         (kUpper ? kHalf : 0);
}
template <int kSize, bool kUpper, int... kLane>
STRAKE_INLINE Vec Halves(Vec a, Vec b, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, HalfSource<kSize, kUpper>(kLane)...);
}

// Lane i of the result is Sum(x[i]), to the bit. Vectors are added in pairs: first kLanes of them,
// then half as many that have twice as many segments.
template <int kCount>
STRAKE_INLINE Vec SumEach(const Vec (&x)[kCount]) {
  constexpr std::make_integer_sequence<int, kLanes> kAll;
  if constexpr (kCount == 1) {
    return x[0];
  } else {
    Vec sums[kCount / 2];
    STRAKE_UNROLL for (int i = 0; i < kCount / 2; ++i) {
      sums[i] = Halves<kCount, false>(x[2 * i], x[2 * i + 1], kAll) +
                Halves<kCount, true>(x[2 * i], x[2 * i + 1], kAll);
    }
    return SumEach(sums);
  }
}

// Stores the elements of kRows rows and kColumns columns of c: the first lanes of `sums`.
template <int kRows, int kColumns, typename C>
STRAKE_INLINE void StoreElements(Vec sums, bool accumulate, int64_t stride, C* c) {
  if (accumulate) {
    float before[kLanes] = {};
    for (int i = 0; i < kRows * kColumns; ++i) {
      before[i] = ToFloat(c[i / kColumns * stride + i % kColumns]);
    }
    sums = LoadUnaligned(before) + sums;
  }
  C elements[kLanes];
  StoreUnaligned(sums, elements);
  for (int i = 0; i < kRows * kColumns; ++i) c[i / kColumns * stride + i % kColumns] = elements[i];
}

template <int kRows, int kColumns, typename T, typename C>
STRAKE_INLINE void StoreDots(const FewRowsProduct<T, C>& p, int64_t row, int64_t column) {
  const float* a = p.a + row * p.k;
  const T* b = p.b + column * p.k;
  static_assert(kRows * kColumns <= kDots);
  Vec sums[kDots] = {};  // of which [kRows, kColumns] are used
  ForEachVector(p.k, [&](int64_t i, auto part) {
    Vec right[kColumns];
    STRAKE_UNROLL for (int j = 0; j < kColumns; ++j) {
      right[j] = Load(b + j * p.k + i, part);
      Prefetch(b + (kColumns + j) * p.k + i);
    }
    STRAKE_UNROLL for (int r = 0; r < kRows; ++r) {
      const Vec left = Load(a + r * p.k + i, part);
      STRAKE_UNROLL for (int j = 0; j < kColumns; ++j) sums[r * kColumns + j] += left * right[j];
    }
  });
  StoreElements<kRows, kColumns>(SumEach(sums), p.accumulate, p.n, p.c + row * p.n + column);
}

template <int kRows, int kColumns, typename T, typename C>
STRAKE_INLINE void StoreAllDots(const FewRowsProduct<T, C>& p, int64_t row, int64_t column) {
  for (; row + kRows <= p.m; row += kRows) StoreDots<kRows, kColumns>(p, row, column);
  if constexpr (kRows > 1) StoreAllDots<kRows / 2, kColumns>(p, row, column);
}

// Returns the first column that is left: fewer than kColumns are.
template <int kColumns, typename T, typename C>
STRAKE_INLINE int64_t MultiplyRowsOfB(const FewRowsProduct<T, C>& p, int64_t begin, int64_t end) {
  constexpr int kRows = kColumns == 1 ? 4 : kDots / kColumns;
  for (; begin + kColumns <= end; begin += kColumns) StoreAllDots<kRows, kColumns>(p, 0, begin);
  return begin;
}

template <typename T, typename C>
void MultiplyTransposed(const FewRowsProduct<T, C>& p, int64_t begin, int64_t end) {
  if (p.m <= kDots / 8) {
    begin = MultiplyRowsOfB<8>(p, begin, end);
  } else {
    begin = MultiplyRowsOfB<kDots / 4>(p, begin, end);
  }
  MultiplyRowsOfB<1>(p, begin, end);
}

}  // namespace

template <typename T, typename C>
void FewRowsMatmul(const FewRowsProduct<T, C>& product, int64_t begin, int64_t end) {
  if (product.transpose_b) return MultiplyTransposed(product, begin, end);
  Multiply(product, begin, end);
}

template void FewRowsMatmul(const FewRowsProduct<float, float>&, int64_t, int64_t);
template void FewRowsMatmul(const FewRowsProduct<Bf16, float>&, int64_t, int64_t);
template void FewRowsMatmul(const FewRowsProduct<Bf16, Bf16>&, int64_t, int64_t);

}  // namespace strake::cpu::STRAKE_CPU_ISA
