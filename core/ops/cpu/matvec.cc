#include "core/ops/cpu/matvec.h"

#include <algorithm>

namespace strake::cpu {
namespace {

// One AVX-512 register, or two of AVX2; loads need no alignment.
constexpr int kLanes = 16;
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Unaligned
    __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

Vector Load(const float* x) { return *reinterpret_cast<const Unaligned*>(x); }

float Sum(Vector x) {
  float sums[kLanes];
  for (int l = 0; l < kLanes; ++l) sums[l] = x[l];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

// Independent sums cover the latency of the additions.
float Dot(const float* x, const float* y, int64_t size) {
  constexpr int kSums = 4;
  Vector sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kLanes <= size; i += kSums * kLanes) {
#pragma GCC unroll 4
    for (int s = 0; s < kSums; ++s) sums[s] += Load(x + i + s * kLanes) * Load(y + i + s * kLanes);
  }
  for (; i + kLanes <= size; i += kLanes) sums[0] += Load(x + i) * Load(y + i);
  float sum = Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < size; ++i) sum += x[i] * y[i];
  return sum;
}

// c[0, columns) += the sum over kRows rows of b, each times its element of a.
template <int kRows>
void AddRows(const float* a, const float* b, int64_t stride, int64_t columns, float* c) {
  for (int64_t j = 0; j < columns; ++j) {
    float sum = c[j];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum += a[r] * b[r * stride + j];
    c[j] = sum;
  }
}

// Several rows for each pass over c, which stays in the cache.
void AddColumns(const float* a, const float* b, int64_t stride, int64_t columns, int64_t k,
                float* c) {
  constexpr int kRows = 8;
  int64_t i = 0;
  for (; i + kRows <= k; i += kRows) AddRows<kRows>(a + i, b + i * stride, stride, columns, c);
  for (; i < k; ++i) AddRows<1>(a + i, b + i * stride, stride, columns, c);
}

}  // namespace

void MatVec(ThreadTeam& team, const float* a, const float* b, int64_t n, int64_t k,
            bool transpose_b, bool accumulate, float* c) {
  // Whole vectors of columns, so that no two threads write one cache line, and 4096 elements of b.
  const int64_t grain = kLanes * std::max<int64_t>(1, 4096 / kLanes / k);
  team.ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
    if (!accumulate) std::fill(c + begin, c + end, 0.0f);
    if (transpose_b) {
      for (int64_t j = begin; j < end; ++j) c[j] += Dot(a, b + j * k, k);
    } else {
      AddColumns(a, b + begin, n, end - begin, k, c + begin);
    }
  });
}

}  // namespace strake::cpu
