#include "core/ops/matmul/matvec_cpu.h"

#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {
namespace {

// Independent sums hide the latency of the additions.
template <typename T>
STRAKE_INLINE float Dot(const T* x, const T* y, int64_t size) {
  constexpr int kSums = 4;
  Vec sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kLanes <= size; i += kSums * kLanes) {
    for (int s = 0; s < kSums; ++s) {
      sums[s] += LoadUnaligned(x + i + s * kLanes) * LoadUnaligned(y + i + s * kLanes);
    }
  }
  ForEachVector(size - i, [&](int64_t j, auto part) {
    sums[0] += Load(x + i + j, part) * Load(y + i + j, part);
  });
  return Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// sums [columns] += the sum over kRows rows of b, each times its element of a.
template <int kRows, typename T>
STRAKE_INLINE void AddRows(const T* a, const T* b, int64_t stride, int64_t columns, float* sums) {
  float factors[kRows];
  for (int r = 0; r < kRows; ++r) factors[r] = ToFloat(a[r]);
  ForEachVector(columns, [&](int64_t j, auto part) {
    Vec sum = Load(sums + j, part);
    for (int r = 0; r < kRows; ++r) sum += factors[r] * Load(b + r * stride + j, part);
    Store(sum, sums + j, part);
  });
}

}  // namespace

template <typename T, typename C>
void MatVec(const T* a, const T* b, int64_t n, int64_t k, int64_t begin, int64_t end,
            bool accumulate, C* c) {
  // Columns whose sums stay in the L1 cache, and rows per pass over them.
  constexpr int64_t kColumns = 2048, kRows = 8;
  alignas(STRAKE_CPU_VECTOR_BYTES) float sums[kColumns];
  for (int64_t at = begin; at < end; at += kColumns) {
    const int64_t columns = Min(kColumns, end - at);
    ForEachVector(columns, [&](int64_t j, auto part) {
      Store(accumulate ? Load(c + at + j, part) : Vec{}, sums + j, part);
    });
    int64_t i = 0;
    for (; i + kRows <= k; i += kRows) AddRows<kRows>(a + i, b + i * n + at, n, columns, sums);
    for (; i < k; ++i) AddRows<1>(a + i, b + i * n + at, n, columns, sums);
    ForEachVector(columns,
                  [&](int64_t j, auto part) { Store(Load(sums + j, part), c + at + j, part); });
  }
}

template <typename T, typename C>
void MatVecTransposed(const T* a, const T* b, int64_t k, int64_t begin, int64_t end,
                      bool accumulate, C* c) {
  for (int64_t j = begin; j < end; ++j) {
    const float dot = Dot(a, b + j * k, k);
    Store(Broadcast(accumulate ? ToFloat(c[j]) + dot : dot), c + j, First{1});
  }
}

#define STRAKE_INSTANTIATE(T, C)                                                          \
  template void MatVec(const T*, const T*, int64_t, int64_t, int64_t, int64_t, bool, C*); \
  template void MatVecTransposed(const T*, const T*, int64_t, int64_t, int64_t, bool, C*);
STRAKE_INSTANTIATE(float, float)
STRAKE_INSTANTIATE(Bf16, float)
STRAKE_INSTANTIATE(Bf16, Bf16)

}  // namespace strake::cpu::STRAKE_CPU_ISA
