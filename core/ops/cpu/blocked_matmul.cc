#include "core/ops/cpu/blocked_matmul.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// A tile of c in registers: 12 of the 16 of AVX2 are sums, or 24 of the 32 of AVX-512.
constexpr int64_t kTileRows = kLanes == 16 ? 12 : 6;
constexpr int64_t kTileVectors = 2;
constexpr int64_t kTileColumns = kTileVectors * kLanes;
// A panel of b, [kDepth, kTileColumns], is half of a first level of cache; a block of a, [kRows,
// kDepth], and one of c, [kRows, kColumns], lie in the second.
constexpr int64_t kDepth = 4096 / kTileColumns;
constexpr int64_t kRows = 240;
constexpr int64_t kColumns = 512;
static_assert(kRows % kTileRows == 0 && kColumns % kTileColumns == 0);
static_assert(kTileRows <= kLanes);

// What a thread works with.
struct Scratch {
  // Panels of a are stored with whole vectors, the last one beyond its end.
  static constexpr int64_t kSizeOfA = kRows * kDepth + kLanes;
  static constexpr int64_t kSizeOfB = kDepth * kTileColumns;
  static constexpr int64_t kSizeOfC = kRows * kColumns;

  explicit Scratch(float* scratch) : a(scratch), b(a + kSizeOfA), c(b + kSizeOfB) {}

  float* a;  // panels [kDepth, kTileRows]
  float* b;  // [kDepth, kTileColumns]
  float* c;  // [kRows, kColumns], where the sums cannot stand in c itself
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

// to [depth, to_stride] = the transpose of `rows` rows, at most kMaxRows, of `depth` elements, the
// others 0. Writes whole vectors.
template <int64_t kMaxRows, typename T>
STRAKE_INLINE void PackTransposed(const T* from, int64_t stride, int64_t rows, int64_t depth,
                                  int64_t to_stride, float* to) {
  ForEachVector(depth, [&](int64_t k, auto part) {
    Vec x[kLanes];
    STRAKE_UNROLL for (int r = 0; r < kLanes; ++r) {
      x[r] = r < kMaxRows && r < rows ? Load(from + r * stride + k, part) : Vec{};
    }
    TransposeSquare(x);
    for (int64_t i = 0; i < part.count; ++i) StoreUnaligned(x[i], to + (k + i) * to_stride);
  });
}

// to [depth, to_stride] = `columns` columns, at most kLanes, of `depth` rows, the others 0.
template <typename T>
STRAKE_INLINE void PackStraight(const T* from, int64_t stride, int64_t columns, int64_t depth,
                                int64_t to_stride, float* to) {
  const auto copy = [&](auto part) {
    for (int64_t k = 0; k < depth; ++k) {
      StoreUnaligned(Load(from + k * stride, part), to + k * to_stride);
    }
  };
  if (columns >= kLanes) {
    copy(Whole());
  } else {
    copy(First{columns});
  }
}

// A panel [depth, kWidth] of an operand: `width` rows or columns from i on, depth from k on.
// `readable`: how many there are from i on. Writes whole vectors, beyond the panel's end where
// kWidth is not made of them.
template <int64_t kWidth, typename T>
STRAKE_INLINE void PackPanel(const Operand<T>& operand, int64_t i, int64_t width, int64_t readable,
                             int64_t k, int64_t depth, float* to) {
  for (int64_t v = 0; v < kWidth; v += kLanes) {
    const T* from = operand.At(i + v, k);
    const int64_t count = Max(0, width - v);
    if (operand.depth_is_contiguous) {
      PackTransposed<Min(kWidth, kLanes)>(from, operand.stride, count, depth, kWidth, to + v);
    } else {
      // What follows `width` is not looked at.
      PackStraight(from, operand.stride, Max(0, readable - v), depth, kWidth, to + v);
    }
  }
}

// Asks the second level of cache for a part of what PackPanel will read.
template <int64_t kWidth, typename T>
STRAKE_INLINE void PrefetchPanel(const Operand<T>& operand, int64_t i, int64_t k, int64_t depth,
                                 int64_t part, int64_t parts) {
  constexpr int64_t kLine = 64 / sizeof(T);
  if (operand.depth_is_contiguous) {
    const int64_t lines = (depth + kLine - 1) / kLine;
    for (int64_t at = kWidth * lines * part / parts; at < kWidth * lines * (part + 1) / parts;
         ++at) {
      __builtin_prefetch(operand.At(i + at / lines, k + at % lines * kLine), 0, 2);
    }
  } else {
    for (int64_t at = depth * part / parts; at < depth * (part + 1) / parts; ++at) {
      for (int64_t j = 0; j < kWidth; j += kLine) {
        __builtin_prefetch(operand.At(i + j, k + at), 0, 2);
      }
    }
  }
}

// c [kTileRows, kTileColumns] = a b, or += with `accumulate`, and + bias unless that is null.
void Tile(const float* a, const float* b, int64_t depth, bool accumulate, const float* bias,
          float* c, int64_t stride) {
  Vec sum[kTileRows][kTileVectors] = {};
  // Twice: the loop's own instructions are one in eight of the smaller tile's.
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k, a += kTileRows, b += kTileColumns) {
    Vec b_row[kTileVectors];
    STRAKE_UNROLL for (int v = 0; v < kTileVectors; ++v) b_row[v] = Load(b + v * kLanes);
    STRAKE_UNROLL for (int r = 0; r < kTileRows; ++r) {
      STRAKE_UNROLL for (int v = 0; v < kTileVectors; ++v) sum[r][v] += a[r] * b_row[v];
    }
  }
  STRAKE_UNROLL for (int r = 0; r < kTileRows; ++r) {
    STRAKE_UNROLL for (int v = 0; v < kTileVectors; ++v) {
      float* to = c + r * stride + v * kLanes;
      if (accumulate) sum[r][v] += LoadUnaligned(to);
      if (bias != nullptr) sum[r][v] += LoadUnaligned(bias + v * kLanes);
      StoreUnaligned(sum[r][v], to);
    }
  }
}

// The same for a tile that reaches beyond the edge of c.
void TileAtEdge(const float* a, const float* b, int64_t depth, bool accumulate, const float* bias,
                int64_t rows, int64_t columns, float* c, int64_t stride) {
  alignas(STRAKE_CPU_VECTOR_BYTES) float tile[kTileRows * kTileColumns];
  Tile(a, b, depth, /*accumulate=*/false, /*bias=*/nullptr, tile, kTileColumns);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) {
      float sum = tile[r * kTileColumns + j];
      if (accumulate) sum += c[r * stride + j];
      if (bias != nullptr) sum += bias[j];
      c[r * stride + j] = sum;
    }
  }
}

template <typename T, typename C>
class Blocks {
 public:
  Blocks(const BlockedProduct<T, C>& product, float* scratch)
      : p_(product),
        scratch_(scratch),
        a_{p_.a, p_.transpose_a ? p_.m : p_.k, !p_.transpose_a},
        b_{p_.b, p_.transpose_b ? p_.k : p_.n, p_.transpose_b} {}

  void Run(const MatmulRange& range) {
    for (int64_t i = range.row_begin; i < range.row_end; i += kRows) {
      for (int64_t j = range.column_begin; j < range.column_end; j += kColumns) {
        const MatmulRange block = {i, Min(i + kRows, range.row_end), j,
                                   Min(j + kColumns, range.column_end)};
        for (int64_t k = 0; k < p_.k; k += kDepth) {
          const int64_t depth = Min(kDepth, p_.k - k);
          // One block in depth is still there from the columns before.
          if (j == range.column_begin || p_.k > kDepth) PackA(block, k, depth);
          AddDepth(block, k, depth);
        }
        if constexpr (!kSumsInC) StoreBlock(block);
      }
    }
  }

 private:
  // Else in the scratch, until a block of them is whole.
  static constexpr bool kSumsInC = sizeof(C) == sizeof(float);

  void PackA(const MatmulRange& block, int64_t k, int64_t depth) {
    for (int64_t i = block.row_begin; i < block.row_end; i += kTileRows) {
      PackPanel<kTileRows>(a_, i, Min(kTileRows, block.row_end - i), p_.m - i, k, depth,
                           PanelOfA(block, i));
    }
  }
  float* PanelOfA(const MatmulRange& block, int64_t i) const {
    return scratch_.a + (i - block.row_begin) * kDepth;
  }

  void AddDepth(const MatmulRange& block, int64_t k, int64_t depth) {
    const int64_t rows = block.row_end - block.row_begin;
    for (int64_t j = block.column_begin; j < block.column_end; j += kTileColumns) {
      PackPanel<kTileColumns>(b_, j, Min(kTileColumns, block.column_end - j), p_.n - j, k, depth,
                              scratch_.b);
      const bool has_next = j + 2 * kTileColumns <= block.column_end;
      for (int64_t r = 0; r < rows; r += kTileRows) {
        if (has_next) {
          PrefetchPanel<kTileColumns>(b_, j + kTileColumns, k, depth, r / kTileRows,
                                      (rows + kTileRows - 1) / kTileRows);
        }
        AddTile(block, block.row_begin + r, j, k, depth);
      }
    }
  }

  void AddTile(const MatmulRange& block, int64_t i, int64_t j, int64_t k, int64_t depth) {
    const float* a = PanelOfA(block, i);
    bool accumulate = k > 0;
    const float* bias = nullptr;
    float* sums = scratch_.c + (i - block.row_begin) * kColumns + j - block.column_begin;
    int64_t stride = kColumns;
    if constexpr (kSumsInC) {
      accumulate = accumulate || p_.accumulate;
      if (k + depth == p_.k && p_.bias != nullptr) bias = p_.bias + j;
      sums = p_.c + i * p_.n + j;
      stride = p_.n;
    }
    const int64_t rows = block.row_end - i, columns = block.column_end - j;
    if (rows >= kTileRows && columns >= kTileColumns) {
      Tile(a, scratch_.b, depth, accumulate, bias, sums, stride);
    } else {
      TileAtEdge(a, scratch_.b, depth, accumulate, bias, Min(rows, kTileRows),
                 Min(columns, kTileColumns), sums, stride);
    }
  }

  // From the scratch to c.
  void StoreBlock(const MatmulRange& block) {
    for (int64_t i = block.row_begin; i < block.row_end; ++i) {
      const float* sums = scratch_.c + (i - block.row_begin) * kColumns;
      C* c = p_.c + i * p_.n + block.column_begin;
      ForEachVector(block.column_end - block.column_begin, [&](int64_t j, auto part) {
        Vec sum = LoadUnaligned(sums + j);
        if (p_.accumulate) sum += Load(c + j, part);
        if (p_.bias != nullptr) sum += Load(p_.bias + block.column_begin + j, part);
        Store(sum, c + j, part);
      });
    }
  }

  const BlockedProduct<T, C>& p_;
  const Scratch scratch_;
  const Operand<T> a_, b_;
};

}  // namespace

int64_t BlockedMatmulScratch(DType output) {
  return Scratch::kSizeOfA + Scratch::kSizeOfB + (output == DType::kF32 ? 0 : Scratch::kSizeOfC);
}

MatmulRange BlockedMatmulPart(int64_t m, int64_t n, int64_t parts, int64_t part) {
  // The rows and columns of one part when `across` of them lie side by side.
  const auto tiles = [](int64_t size, int64_t count, int64_t tile) {
    return RoundUp((size + count - 1) / count, tile);
  };
  int64_t across = 1;
  double least = 0;
  for (int64_t candidate = 1; candidate <= parts; ++candidate) {
    if (parts % candidate != 0) continue;
    const double rows = tiles(m, parts / candidate, kTileRows);
    const double columns = tiles(n, candidate, kTileColumns);
    // Multiply-adds, and what is copied for them: an element of a for all columns, at most as many
    // as there are; an element of b for each block of rows.
    constexpr double kCopy = 4;
    const double cost =
        rows * columns * (1 + kCopy / columns + kCopy / (rows < kRows ? rows : kRows));
    if (candidate == 1 || cost < least) across = candidate, least = cost;
  }
  const int64_t rows = tiles(m, parts / across, kTileRows),
                columns = tiles(n, across, kTileColumns);
  const int64_t i = part / across * rows, j = part % across * columns;
  return {Min(m, i), Min(m, i + rows), Min(n, j), Min(n, j + columns)};
}

template <typename T, typename C>
void BlockedMatmul(const BlockedProduct<T, C>& product, const MatmulRange& range, float* scratch) {
  Blocks<T, C>(product, scratch).Run(range);
}

#define STRAKE_INSTANTIATE(T, C) \
  template void BlockedMatmul(const BlockedProduct<T, C>&, const MatmulRange&, float*);
STRAKE_INSTANTIATE(float, float)
STRAKE_INSTANTIATE(Bf16, float)
STRAKE_INSTANTIATE(Bf16, Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
