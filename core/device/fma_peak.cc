#include "core/device/fma_peak.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "glog/logging.h"

namespace strake {
namespace {

typedef float Avx2Vector __attribute__((vector_size(32)));
typedef float Avx512Vector __attribute__((vector_size(64)));

// Enough independent sums to hide 4 cycles of latency on 2 units, and few enough for 16 registers.
constexpr int kSums = 12;

// FLOPs of one round with vectors of this size.
constexpr double FlopsPerRound(int vector_bytes, int element_bytes) {
  return 2.0 * kSums * vector_bytes / element_bytes;
}

// sum = sum * factor + term, which converges to about 1. No sum starts there, because the compiler
// would omit operations that do not change it. Returns a value so that the loop is not omitted.
template <typename Vector>
__attribute__((always_inline)) inline float FmaLoop(int64_t rounds) {
  const Vector factor = Vector{} + 0.999f, term = Vector{} + 0.001f;
  Vector sums[kSums];
  for (int s = 0; s < kSums; ++s) sums[s] = Vector{} + (2 + 0.01f * s);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = sums[s] * factor + term;
  }
  Vector total = {};
  for (const Vector& sum : sums) total += sum;
  return total[0];
}

float Avx2Loop(int64_t rounds) { return FmaLoop<Avx2Vector>(rounds); }

__attribute__((target("avx512f"))) float Avx512Loop(int64_t rounds) {
  return FmaLoop<Avx512Vector>(rounds);
}

__attribute__((target("avx512f,avx512bf16"))) float Bf16Loop(int64_t rounds) {
  const __m512 small = _mm512_set1_ps(0.001f);
  const __m512bh factor = _mm512_cvtne2ps_pbh(small, small);
  __m512 sums[kSums];
  for (int s = 0; s < kSums; ++s) sums[s] = _mm512_set1_ps(1 + 0.01f * s);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = _mm512_dpbf16_ps(sums[s], factor, factor);
  }
  __m512 total = _mm512_setzero_ps();
  for (const __m512& sum : sums) total = _mm512_add_ps(total, sum);
  return _mm512_cvtss_f32(total);
}

double BestFlops(ThreadTeam& team, double seconds, double flops_per_round,
                 float (*loop)(int64_t rounds)) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRoundsPerWindow = 500'000;  // about 1 ms
  const std::chrono::duration<double> duration(seconds);
  std::vector<float> results(team.num_threads());
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto window_start = Clock::now();
    team.ParallelFor(team.num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) results[i] = loop(kRoundsPerWindow);
    });
    const std::chrono::duration<double> elapsed = Clock::now() - window_start;
    best =
        std::max(best, flops_per_round * kRoundsPerWindow * team.num_threads() / elapsed.count());
  } while (Clock::now() - start < duration);
  CHECK_GT(*std::min_element(results.begin(), results.end()), 0) << "[fma_peak]";
  return best;
}

}  // namespace

double MeasureFmaPeakFlops(ThreadTeam& team, double seconds) {
  return __builtin_cpu_supports("avx512f")
             ? BestFlops(team, seconds, FlopsPerRound(64, 4), Avx512Loop)
             : BestFlops(team, seconds, FlopsPerRound(32, 4), Avx2Loop);
}

double MeasureBf16PeakFlops(ThreadTeam& team, double seconds) {
  return __builtin_cpu_supports("avx512bf16")
             ? BestFlops(team, seconds, FlopsPerRound(64, 2), Bf16Loop)
             : MeasureFmaPeakFlops(team, seconds);
}

}  // namespace strake
