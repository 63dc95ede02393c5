#include "core/device/fma_peak.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "glog/logging.h"

namespace strake {
namespace {

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));

// Enough independent sums to cover 4 cycles of latency on 2 units, few enough for 16 registers.
constexpr int kSums = 12;
constexpr double kFlopsPerRound = 2.0 * kSums * kVectorBytes / sizeof(float);

// sum = sum * factor + term, which stays near 1. Returns a value so that the loop is needed.
float FmaLoop(int64_t rounds) {
  const Vector factor = Vector{} + 0.999f, term = Vector{} + 0.001f;
  Vector sums[kSums];
  for (int s = 0; s < kSums; ++s) sums[s] = Vector{} + (1 + 0.01f * s);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = sums[s] * factor + term;
  }
  Vector total = {};
  for (const Vector& sum : sums) total += sum;
  return total[0];
}

#ifdef __x86_64__

bool HasBf16Products() { return __builtin_cpu_supports("avx512bf16"); }

constexpr double kBf16FlopsPerRound = 2.0 * kSums * sizeof(__m512) / sizeof(uint16_t);

// The machine that builds need not be the one that runs this.
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

#else

bool HasBf16Products() { return false; }

constexpr double kBf16FlopsPerRound = 0;

float Bf16Loop(int64_t) { return 0; }

#endif

double BestFlops(ThreadTeam& team, double flops_per_round, float (*loop)(int64_t rounds)) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRoundsPerWindow = 500'000;  // about 1 ms
  constexpr auto kDuration = std::chrono::milliseconds(200);
  std::vector<float> results(team.num_threads());
  double best = 0;
  for (const auto start = Clock::now(); Clock::now() - start < kDuration;) {
    const auto window_start = Clock::now();
    team.ParallelFor(team.num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) results[i] = loop(kRoundsPerWindow);
    });
    const std::chrono::duration<double> elapsed = Clock::now() - window_start;
    best =
        std::max(best, flops_per_round * kRoundsPerWindow * team.num_threads() / elapsed.count());
  }
  CHECK_GT(*std::min_element(results.begin(), results.end()), 0) << "[fma_peak]";
  return best;
}

}  // namespace

double MeasureFmaPeakFlops(ThreadTeam& team) { return BestFlops(team, kFlopsPerRound, FmaLoop); }

double MeasureBf16PeakFlops(ThreadTeam& team) {
  return HasBf16Products() ? BestFlops(team, kBf16FlopsPerRound, Bf16Loop)
                           : MeasureFmaPeakFlops(team);
}

}  // namespace strake
