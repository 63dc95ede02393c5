#include "core/device/fma_peak.h"

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

}  // namespace

double MeasureFmaPeakFlops(ThreadTeam& team) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRoundsPerWindow = 500'000;  // about 1 ms
  constexpr auto kDuration = std::chrono::milliseconds(200);
  std::vector<float> results(team.num_threads());
  double best = 0;
  for (const auto start = Clock::now(); Clock::now() - start < kDuration;) {
    const auto window_start = Clock::now();
    team.ParallelFor(team.num_threads(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) results[i] = FmaLoop(kRoundsPerWindow);
    });
    const std::chrono::duration<double> elapsed = Clock::now() - window_start;
    best = std::max(best, kFlopsPerRound * kRoundsPerWindow * team.num_threads() / elapsed.count());
  }
  CHECK_GT(*std::min_element(results.begin(), results.end()), 0) << "[fma_peak]";
  return best;
}

}  // namespace strake
