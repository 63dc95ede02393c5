#include "core/ops/embedding/embedding_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// sum += x.
template <typename Sum, typename T>
STRAKE_INLINE void Add(const T* x, int64_t size, Sum* sum) {
  ForEachVector(size, [&](int64_t i, auto part) {
    Store(Load(sum + i, part) + Load(x + i, part), sum + i, part);
  });
}

}  // namespace

template <typename T>
void EmbeddingForward(EmbeddingForwardArgs<T> args, int64_t begin, int64_t end) {
  const int64_t columns = args.columns, table_rows = args.table_rows;
  T* y = args.y + begin * columns;
  for (int64_t n = begin; n < end; ++n, y += columns) {
    const int64_t row = args.tokens[n] - args.slice.begin;
    if (row >= 0 && row < table_rows) {
      __builtin_memcpy(y, args.table + row * columns, columns * sizeof(T));
    } else {
      __builtin_memset(y, 0, columns * sizeof(T));
    }
  }
}

template <typename T>
void EmbeddingBackward(EmbeddingBackwardArgs<T> args, int64_t begin, int64_t end) {
  const int64_t size = end - begin;
  const auto dy = [&](int64_t place) { return args.dy + args.order[place] * args.columns + begin; };
  for (int64_t place = 0; place < args.num_tokens;) {
    const int64_t token = args.tokens[args.order[place]], first = place;
    const auto same = [&] {
      return place < args.num_tokens && args.tokens[args.order[place]] == token;
    };
    while (same()) ++place;
    const int64_t row = token - args.slice.begin;
    if (row < 0 || row >= args.table_rows) continue;
    float* const dtable = args.dtable + row * args.columns + begin;
    if (place == first + 1) {
      Add(dy(first), size, dtable);
      continue;
    }
    float* const sum = args.row_sum + begin;
    __builtin_memset(sum, 0, size * sizeof(float));
    for (int64_t i = first; i < place; ++i) Add(dy(i), size, sum);
    Add(sum, size, dtable);
  }
}

template <typename T>
void PositionEmbeddingForward(const T* positions, RowPositions at, int64_t begin, int64_t end,
                              int64_t columns, T* y) {
  for (int64_t n = begin; n < end; ++n) {
    Add(positions + at(n) * columns, columns, y + n * columns);
  }
}

template <typename T>
void PositionEmbeddingBackward(const T* dy, RowPositions at, int64_t rows, int64_t columns,
                               int64_t begin, int64_t end, float* dpositions) {
  for (int64_t n = 0; n < rows; ++n) {
    Add(dy + n * columns + begin, end - begin, dpositions + at(n) * columns + begin);
  }
}

#define STRAKE_INSTANTIATE(T)                                                                    \
  template void EmbeddingForward(EmbeddingForwardArgs<T>, int64_t, int64_t);                     \
  template void EmbeddingBackward(EmbeddingBackwardArgs<T>, int64_t, int64_t);                   \
  template void PositionEmbeddingForward(const T*, RowPositions, int64_t, int64_t, int64_t, T*); \
  template void PositionEmbeddingBackward(const T*, RowPositions, int64_t, int64_t, int64_t,     \
                                          int64_t, float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
