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
void EmbeddingForward(const int32_t* tokens, int64_t num_tokens, int64_t first, const T* table,
                      int64_t table_rows, int64_t columns, T* y) {
  for (int64_t n = 0; n < num_tokens; ++n, y += columns) {
    const int64_t row = tokens[n] - first;
    if (row >= 0 && row < table_rows) {
      __builtin_memcpy(y, table + row * columns, columns * sizeof(T));
    } else {
      __builtin_memset(y, 0, columns * sizeof(T));
    }
  }
}

template <typename T>
void EmbeddingBackward(const T* dy, const int32_t* tokens, int64_t num_tokens, int64_t first,
                       int64_t table_rows, int64_t columns, int64_t begin, int64_t end,
                       float* dtable) {
  for (int64_t n = 0; n < num_tokens; ++n) {
    const int64_t row = tokens[n] - first;
    if (row < 0 || row >= table_rows) continue;
    Add(dy + n * columns + begin, end - begin, dtable + row * columns + begin);
  }
}

template <typename T>
void PositionEmbeddingForward(const T* positions, int64_t period, int64_t offset, int64_t rows,
                              int64_t columns, T* y) {
  for (int64_t n = 0; n < rows; ++n) {
    Add(positions + (offset + n) % period * columns, columns, y + n * columns);
  }
}

template <typename T>
void PositionEmbeddingBackward(const T* dy, int64_t period, int64_t offset, int64_t rows,
                               int64_t columns, int64_t begin, int64_t end, float* dpositions) {
  for (int64_t n = 0; n < rows; ++n) {
    Add(dy + n * columns + begin, end - begin,
        dpositions + (offset + n) % period * columns + begin);
  }
}

#define STRAKE_INSTANTIATE(T)                                                                    \
  template void EmbeddingForward(const int32_t*, int64_t, int64_t, const T*, int64_t, int64_t,   \
                                 T*);                                                            \
  template void EmbeddingBackward(const T*, const int32_t*, int64_t, int64_t, int64_t, int64_t,  \
                                  int64_t, int64_t, float*);                                     \
  template void PositionEmbeddingForward(const T*, int64_t, int64_t, int64_t, int64_t, T*);      \
  template void PositionEmbeddingBackward(const T*, int64_t, int64_t, int64_t, int64_t, int64_t, \
                                          int64_t, float*);
STRAKE_INSTANTIATE(float)
STRAKE_INSTANTIATE(Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
