#include "core/ops/matmul/blocked_matmul_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// A tile of c in registers: 12 of the 16 registers of AVX2, or 24 of the 32 of AVX-512, hold sums.
constexpr int64_t kTileRows = kLanes == 16 ? 12 : 6;
// Rows of a packed tile, in whole vectors.
constexpr int64_t kPackedRows = RoundUp(kTileRows, kLanes);
constexpr int64_t kTileVectors = 2;
constexpr int64_t kTileColumns = kTileVectors * kLanes;
static_assert(kMatmulRowGrain % kTileRows == 0 && kMatmulColumnGrain % kTileColumns == 0);
// A panel of b, [kDepth, kTileColumns], takes half of the L1 cache. A block of b, the panels of a
// range, takes half of the L2 cache, and kGroupRows rows of a take a fifth.
constexpr int64_t kDepth = 4096 / kTileColumns;
constexpr int64_t kGroupRows = 96;
static_assert(kGroupRows % kTileRows == 0);

// The panels in a thread's scratch.
struct Scratch {
  static constexpr int64_t kPanelOfA = kDepth * kPackedRows;
  static constexpr int64_t kSizeOfA = kGroupRows / kTileRows * kPanelOfA;
  static constexpr int64_t kPanelOfB = kDepth * kTileColumns;
  static constexpr int64_t kSizeOfB = kMatmulBlockColumns / kTileColumns * kPanelOfB;
  static constexpr int64_t kSizeOfC = kMatmulBlockRows * kMatmulBlockColumns;

  explicit Scratch(float* scratch) : a(scratch), b(a + kSizeOfA), c(b + kSizeOfB) {}

  float* a;  // panels [kDepth, kPackedRows]
  float* b;  // panels [kDepth, kTileColumns]
  float* c;  // [kMatmulBlockRows, kMatmulBlockColumns], if the sums cannot be kept in c itself
};

// An operand as a matrix of rows or columns of c (`width` of them) by depth k.
template <typename T>
struct Operand {
  const T* data;
  int64_t stride;
  bool depth_is_contiguous;

  const T* At(int64_t i, int64_t k) const {
    return depth_is_contiguous ? data + i * stride + k : data + k * stride + i;
  }
};

// to [depth, kToStride] = the transpose of `rows` rows (at most kLanes) of `depth` elements; the
// other columns are 0.
template <int64_t kToStride, typename T>
STRAKE_INLINE void PackTransposed(const T* from, int64_t stride, int64_t rows, int64_t depth,
                                  float* to) {
  ForEachVector(depth, [&](int64_t k, auto part) {
    Vec x[kLanes];
    STRAKE_UNROLL for (int r = 0; r < kLanes; ++r) {
      x[r] = r < rows ? Load(from + r * stride + k, part) : Vec{};
    }
    TransposeSquare(x);
    for (int64_t i = 0; i < part.count; ++i) Store(x[i], to + (k + i) * kToStride);
  });
}

// to [depth, kWidth] = `columns` columns (at most kWidth) of `depth` rows; the other columns are 0.
template <int64_t kWidth, typename T>
STRAKE_INLINE void PackStraight(const T* from, int64_t stride, int64_t columns, int64_t depth,
                                float* to) {
  if (columns >= kWidth) {
#pragma GCC unroll 8
    for (int64_t k = 0; k < depth; ++k) {
      STRAKE_UNROLL for (int64_t v = 0; v < kWidth; v += kLanes) {
        Store(LoadUnaligned(from + k * stride + v), to + k * kWidth + v);
      }
    }
    return;
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t j = 0; j < kWidth; ++j) {
      to[k * kWidth + j] = j < columns ? ToFloat(from[k * stride + j]) : 0;
    }
  }
}

// Packs a panel [depth, kWidth] of an operand: `width` rows or columns from i on, depth from k on.
// `readable` is the number of rows or columns that exist from i on.
template <int64_t kWidth, typename T>
STRAKE_INLINE void PackPanel(const Operand<T>& operand, int64_t i, int64_t width, int64_t readable,
                             int64_t k, int64_t depth, float* to) {
  static_assert(kWidth % kLanes == 0);
  if (!operand.depth_is_contiguous) {
    // Columns after `width` are not used.
    return PackStraight<kWidth>(operand.At(i, k), operand.stride, readable, depth, to);
  }
  for (int64_t v = 0; v < kWidth; v += kLanes) {
    PackTransposed<kWidth>(operand.At(i + v, k), operand.stride, Min(kLanes, width - v), depth,
                           to + v);
  }
}

// Prefetches into the L2 cache what PackPanel will read, one part per call.
template <int64_t kWidth, typename T>
class PanelPrefetch {
 public:
  // Spreads the prefetch over `num_calls` calls.
  PanelPrefetch(const Operand<T>& operand, int64_t i, int64_t k, int64_t depth, int64_t num_calls)
      : from_(operand.At(i, k)),
        stride_(operand.stride),
        rows_(operand.depth_is_contiguous ? kWidth : depth),
        columns_(operand.depth_is_contiguous ? depth : kWidth),
        rows_per_call_((rows_ + num_calls - 1) / num_calls) {}

  void Call() {
    constexpr int64_t kLine = 64 / sizeof(T);
    for (const int64_t end = Min(rows_, row_ + rows_per_call_); row_ < end; ++row_) {
      for (int64_t j = 0; j < columns_; j += kLine) {
        __builtin_prefetch(from_ + row_ * stride_ + j, /*for writing=*/0, /*locality=*/2);
      }
    }
  }

 private:
  const T* const from_;
  // In the layout in which the operand is stored.
  const int64_t stride_, rows_, columns_, rows_per_call_;
  int64_t row_ = 0;
};

// kTileRows rows of a: packed, or in place if `stride` > 0.
struct TileOfA {
  const float* data;
  int64_t stride;

  // Returns element (r, k).
  template <bool kPacked>
  STRAKE_INLINE float At(int64_t r, int64_t k) const {
    return kPacked ? data[k * kPackedRows + r] : data[r * stride + k];
  }
};

using TileSums = Vec[kTileRows][kTileVectors];

template <bool kPacked>
STRAKE_INLINE void SumTile(const TileOfA& a, const float* b, int64_t depth, TileSums& sum) {
  // Unrolled, so that the loop has few iterations and the processor predicts which is the last.
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k) {
    Vec b_row[kTileVectors];
    STRAKE_UNROLL for (int v = 0; v < kTileVectors; ++v) {
      b_row[v] = Load(b + k * kTileColumns + v * kLanes);
    }
    STRAKE_UNROLL for (int r = 0; r < kTileRows; ++r) {
      STRAKE_UNROLL for (int v = 0; v < kTileVectors; ++v) {
        sum[r][v] += a.At<kPacked>(r, k) * b_row[v];
      }
    }
  }
}

// The common part of the tiles of a panel of b: c [kTileRows, kTileColumns], with rows `stride`
// apart, = a b, or += with `accumulate`, plus bias unless it is null.
struct TileColumn {
  const float* b;
  const float* bias;
  int64_t depth, stride;
  bool accumulate;
};

void Tile(const TileOfA& a, const TileColumn& column, float* c) {
  const int64_t stride = column.stride;
  TileSums sum = {};
  if (a.stride == 0) {
    SumTile</*kPacked=*/true>(a, column.b, column.depth, sum);
  } else {
    SumTile</*kPacked=*/false>(a, column.b, column.depth, sum);
  }
  STRAKE_UNROLL for (int r = 0; r < kTileRows; ++r) {
    STRAKE_UNROLL for (int v = 0; v < kTileVectors; ++v) {
      float* to = c + r * stride + v * kLanes;
      if (column.accumulate) sum[r][v] += LoadUnaligned(to);
      if (column.bias != nullptr) sum[r][v] += LoadUnaligned(column.bias + v * kLanes);
      StoreUnaligned(sum[r][v], to);
    }
  }
}

// The same for a tile that extends beyond the edge of c.
void TileAtEdge(const TileOfA& a, const TileColumn& column, int64_t rows, int64_t columns,
                float* c) {
  alignas(STRAKE_CPU_VECTOR_BYTES) float tile[kTileRows * kTileColumns];
  Tile(a, {column.b, /*bias=*/nullptr, column.depth, kTileColumns, /*accumulate=*/false}, tile);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      float sum = tile[r * kTileColumns + j];
      if (column.accumulate) sum += c[r * column.stride + j];
      if (column.bias != nullptr) sum += column.bias[j];
      c[r * column.stride + j] = sum;
    }
  }
}

template <typename T, typename C>
class Block {
 public:
  Block(const BlockedProduct<T, C>& product, const MatmulRange& range, MatmulScratch* scratch)
      : p_(product),
        range_(range),
        scratch_(scratch->data),
        a_{p_.a, p_.transpose_a ? p_.m : p_.k, !p_.transpose_a},
        b_{p_.b, p_.transpose_b ? p_.k : p_.n, p_.transpose_b},
        kept_columns_(&scratch->kept_columns) {}

  void Run() {
    for (int64_t k = 0; k < p_.k; k += kDepth) AddDepth(k, Min(kDepth, p_.k - k));
    *kept_columns_ = p_.k <= kDepth ? range_.column_begin : -1;
    if constexpr (!kSumsInC) StoreSums();
  }

 private:
  // If false, sums are kept in the scratch until a block of them is complete.
  static constexpr bool kSumsInC = sizeof(C) == sizeof(float);

  void AddDepth(int64_t k, int64_t depth) {
    bool packs_b = *kept_columns_ != range_.column_begin;
    for (int64_t i = range_.row_begin; i < range_.row_end; i += kGroupRows, packs_b = false) {
      AddGroup(i, Min(kGroupRows, range_.row_end - i), k, depth, packs_b);
    }
  }

  // Adds the products of rows from i on.
  void AddGroup(int64_t i, int64_t rows, int64_t k, int64_t depth, bool packs_b) {
    const int64_t in_place = ReadsAInPlace() ? rows / kTileRows * kTileRows : 0;
    PackA(i + in_place, rows - in_place, k, depth);
    for (int64_t j = range_.column_begin; j < range_.column_end; j += kTileColumns) {
      const int64_t columns = Min(kTileColumns, range_.column_end - j), next = j + kTileColumns;
      if (packs_b) PackPanel<kTileColumns>(b_, j, columns, p_.n - j, k, depth, PanelOfB(j));
      PanelPrefetch<kTileColumns, T> prefetch(b_, next, k, depth, rows / kTileRows + 1);
      const TileColumn column = Column(j, k, depth);
      float* sums = Sums(i, j);
      for (int64_t r = 0; r < rows; r += kTileRows, sums += kTileRows * column.stride) {
        if (packs_b && next < range_.column_end) prefetch.Call();
        const TileOfA a = r < in_place ? InPlace(i + r, k) : TileOfA{PanelOfA(r - in_place), 0};
        if (rows - r >= kTileRows && columns == kTileColumns) {
          Tile(a, column, sums);
        } else {
          TileAtEdge(a, column, Min(kTileRows, rows - r), columns, sums);
        }
      }
    }
  }

  TileColumn Column(int64_t j, int64_t k, int64_t depth) const {
    TileColumn column = {PanelOfB(j), /*bias=*/nullptr, depth, kMatmulBlockColumns,
                         /*accumulate=*/k > 0};
    if constexpr (kSumsInC) {
      if (k + depth == p_.k && p_.bias != nullptr) column.bias = p_.bias + j;
      column.stride = p_.n;
      column.accumulate = column.accumulate || p_.accumulate;
    }
    return column;
  }

  // Rows that are a multiple of a page apart would compete for too few cache sets.
  bool ReadsAInPlace() const {
    return sizeof(T) == sizeof(float) && a_.depth_is_contiguous && a_.stride % 1024 != 0;
  }
  TileOfA InPlace(int64_t i, int64_t k) const {
    return {reinterpret_cast<const float*>(a_.At(i, k)), a_.stride};
  }

  // If depth lies along columns, panels share cache lines. So it packs so few rows at a time that
  // they stay in the L1 cache.
  void PackA(int64_t i, int64_t rows, int64_t k, int64_t depth) {
    const int64_t step = a_.depth_is_contiguous ? depth : kLanes;
    for (int64_t d = 0; d < depth; d += step) {
      for (int64_t r = 0; r < rows; r += kTileRows) {
        PackPanel<kPackedRows>(a_, i + r, Min(kTileRows, rows - r), p_.m - i - r, k + d,
                               Min(step, depth - d), PanelOfA(r) + d * kPackedRows);
      }
    }
  }

  float* PanelOfA(int64_t row) const { return scratch_.a + row / kTileRows * Scratch::kPanelOfA; }
  float* PanelOfB(int64_t j) const {
    return scratch_.b + (j - range_.column_begin) / kTileColumns * Scratch::kPanelOfB;
  }
  float* Sums(int64_t i, int64_t j) const {
    if constexpr (kSumsInC) {
      return p_.c + i * p_.n + j;
    } else {
      return scratch_.c + (i - range_.row_begin) * kMatmulBlockColumns + j - range_.column_begin;
    }
  }

  // Copies the sums from the scratch to c.
  void StoreSums() {
    for (int64_t i = range_.row_begin; i < range_.row_end; ++i) {
      C* c = p_.c + i * p_.n + range_.column_begin;
      const float* sums = Sums(i, range_.column_begin);
      ForEachVector(range_.column_end - range_.column_begin, [&](int64_t j, auto part) {
        Vec sum = LoadUnaligned(sums + j);
        if (p_.accumulate) sum += Load(c + j, part);
        if (p_.bias != nullptr) sum += Load(p_.bias + range_.column_begin + j, part);
        Store(sum, c + j, part);
      });
    }
  }

  const BlockedProduct<T, C>& p_;
  const MatmulRange& range_;
  const Scratch scratch_;
  const Operand<T> a_, b_;
  int64_t* const kept_columns_;
};

}  // namespace

int64_t BlockedMatmulScratch(DType output) {
  return Scratch::kSizeOfA + Scratch::kSizeOfB + (output == DType::kF32 ? 0 : Scratch::kSizeOfC);
}

template <typename T, typename C>
void BlockedMatmul(const BlockedProduct<T, C>& product, const MatmulRange& range,
                   MatmulScratch* scratch) {
  Block<T, C>(product, range, scratch).Run();
}

#define STRAKE_INSTANTIATE(T, C) \
  template void BlockedMatmul(const BlockedProduct<T, C>&, const MatmulRange&, MatmulScratch*);
STRAKE_INSTANTIATE(float, float)
STRAKE_INSTANTIATE(Bf16, float)
STRAKE_INSTANTIATE(Bf16, Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
