#include "core/ops/cpu/blocked_matmul.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// A tile of c in registers: 12 of the 16 of AVX2 are sums, or 24 of the 32 of AVX-512.
constexpr int64_t kTileRows = kLanes == 16 ? 12 : 6;
constexpr int64_t kTileVectors = 2;
constexpr int64_t kTileColumns = kTileVectors * kLanes;
static_assert(kMatmulRowGrain % kTileRows == 0 && kMatmulColumnGrain % kTileColumns == 0);
// A panel of b, [kDepth, kTileColumns], is half of a first level of cache; a block of a,
// [kMatmulBlockRows, kDepth], half of a second.
constexpr int64_t kDepth = 4096 / kTileColumns;

// What a thread works with.
struct Scratch {
  // Whole vectors are stored to a panel of a, beyond its end.
  static constexpr int64_t kPanelOfA = kDepth * kTileRows + kLanes;
  static constexpr int64_t kSizeOfA = kMatmulBlockRows / kTileRows * kPanelOfA;
  static constexpr int64_t kSizeOfB = kDepth * kTileColumns;
  static constexpr int64_t kSizeOfC = kMatmulBlockRows * kMatmulBlockColumns;

  explicit Scratch(float* scratch) : a(scratch), b(a + kSizeOfA), c(b + kSizeOfB) {}

  float* a;  // panels [kDepth, kTileRows], kPanelOfA apart
  float* b;  // [kDepth, kTileColumns]
  float* c;  // [kMatmulBlockRows, kMatmulBlockColumns], where the sums cannot stand in c itself
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

// Asks the second level of cache for what PackPanel will read, a part with each call.
template <int64_t kWidth, typename T>
class PanelPrefetch {
 public:
  // In `num_calls` calls.
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
  // As the operand is stored.
  const int64_t stride_, rows_, columns_, rows_per_call_;
  int64_t row_ = 0;
};

// c [kTileRows, kTileColumns] = a b, or += with `accumulate`, and + bias unless that is null.
void Tile(const float* a, const float* b, int64_t depth, bool accumulate, const float* bias,
          float* c, int64_t stride) {
  Vec sum[kTileRows][kTileVectors] = {};
  STRAKE_UNROLL for (int r = 0; r < kTileRows; ++r) {
    STRAKE_UNROLL for (int64_t j = 0; j < kTileColumns; j += 16) {
      __builtin_prefetch(c + r * stride + j, /*for writing=*/1);
    }
  }
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
class Block {
 public:
  Block(const BlockedProduct<T, C>& product, const MatmulRange& range, float* scratch)
      : p_(product),
        range_(range),
        scratch_(scratch),
        a_{p_.a, p_.transpose_a ? p_.m : p_.k, !p_.transpose_a},
        b_{p_.b, p_.transpose_b ? p_.k : p_.n, p_.transpose_b} {}

  void Run() {
    for (int64_t k = 0; k < p_.k; k += kDepth) {
      const int64_t depth = Min(kDepth, p_.k - k);
      PackA(k, depth);
      AddDepth(k, depth);
    }
    if constexpr (!kSumsInC) StoreSums();
  }

 private:
  // Else in the scratch, until a block of them is whole.
  static constexpr bool kSumsInC = sizeof(C) == sizeof(float);

  // If depth lies along columns, panels share cache lines: so few rows at a time that they stay in
  // the first level of cache.
  void PackA(int64_t k, int64_t depth) {
    const int64_t step = a_.depth_is_contiguous ? depth : kLanes;
    for (int64_t d = 0; d < depth; d += step) {
      for (int64_t i = range_.row_begin; i < range_.row_end; i += kTileRows) {
        PackPanel<kTileRows>(a_, i, Min(kTileRows, range_.row_end - i), p_.m - i, k + d,
                             Min(step, depth - d), PanelOfA(i) + d * kTileRows);
      }
    }
  }

  float* PanelOfA(int64_t i) const {
    return scratch_.a + (i - range_.row_begin) / kTileRows * Scratch::kPanelOfA;
  }
  float* SumsInScratch(int64_t i) const {
    return scratch_.c + (i - range_.row_begin) * kMatmulBlockColumns;
  }

  void AddDepth(int64_t k, int64_t depth) {
    const int64_t panels = (range_.row_end - range_.row_begin + kTileRows - 1) / kTileRows;
    for (int64_t j = range_.column_begin; j < range_.column_end; j += kTileColumns) {
      const int64_t next = j + kTileColumns;
      PackPanel<kTileColumns>(b_, j, Min(kTileColumns, range_.column_end - j), p_.n - j, k, depth,
                              scratch_.b);
      PanelPrefetch<kTileColumns, T> prefetch(b_, next, k, depth, panels);
      for (int64_t i = range_.row_begin; i < range_.row_end; i += kTileRows) {
        if (next < range_.column_end) prefetch.Call();
        AddTile(i, j, k, depth);
      }
    }
  }

  void AddTile(int64_t i, int64_t j, int64_t k, int64_t depth) {
    const float* a = PanelOfA(i);
    bool accumulate = k > 0;
    const float* bias = nullptr;
    float* sums = SumsInScratch(i) + j - range_.column_begin;
    int64_t stride = kMatmulBlockColumns;
    if constexpr (kSumsInC) {
      accumulate = accumulate || p_.accumulate;
      if (k + depth == p_.k && p_.bias != nullptr) bias = p_.bias + j;
      sums = p_.c + i * p_.n + j;
      stride = p_.n;
    }
    const int64_t rows = range_.row_end - i, columns = range_.column_end - j;
    if (rows >= kTileRows && columns >= kTileColumns) {
      Tile(a, scratch_.b, depth, accumulate, bias, sums, stride);
    } else {
      TileAtEdge(a, scratch_.b, depth, accumulate, bias, Min(rows, kTileRows),
                 Min(columns, kTileColumns), sums, stride);
    }
  }

  // From the scratch to c.
  void StoreSums() {
    for (int64_t i = range_.row_begin; i < range_.row_end; ++i) {
      C* c = p_.c + i * p_.n + range_.column_begin;
      ForEachVector(range_.column_end - range_.column_begin, [&](int64_t j, auto part) {
        Vec sum = LoadUnaligned(SumsInScratch(i) + j);
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
};

}  // namespace

int64_t BlockedMatmulScratch(DType output) {
  return Scratch::kSizeOfA + Scratch::kSizeOfB + (output == DType::kF32 ? 0 : Scratch::kSizeOfC);
}

template <typename T, typename C>
void BlockedMatmul(const BlockedProduct<T, C>& product, const MatmulRange& range, float* scratch) {
  Block<T, C>(product, range, scratch).Run();
}

#define STRAKE_INSTANTIATE(T, C) \
  template void BlockedMatmul(const BlockedProduct<T, C>&, const MatmulRange&, float*);
STRAKE_INSTANTIATE(float, float)
STRAKE_INSTANTIATE(Bf16, float)
STRAKE_INSTANTIATE(Bf16, Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
