#include "core/device/memory_stream.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace strake {
namespace {

constexpr int64_t kGrain = 4096 / sizeof(float);  // whole pages

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The sum of an array; `size` is a multiple of 64. Reads four parts of it side by side, because
// reading one alone leaves the memory idle now and then.
float Sum(const float* x, int64_t size) {
  typedef float Line __attribute__((vector_size(64), may_alias, aligned(4)));
  Line sums[4] = {};
  for (int64_t i = 0; i < size / 4; i += 16) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) sums[s] += *reinterpret_cast<const Line*>(x + s * (size / 4) + i);
  }
  const Line all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float sum = 0;
  for (int i = 0; i < 16; ++i) sum += all[i];
  return sum;
}

}  // namespace

MemoryStream::MemoryStream(ThreadTeam* team, size_t num_bytes)
    : team_(*team), size_(num_bytes / sizeof(float)), array_(new float[size_]) {
  // Pages are allocated near the thread that touches them first.
  team_.ParallelFor(size_, kGrain, [&](int64_t begin, int64_t end) {
    std::fill(array_.get() + begin, array_.get() + end, 1.0f);
  });
}

double MemoryStream::MeasurePass() {
  const auto start = Clock::now();
  team_.ParallelFor(size_, kGrain, [x = array_.get()](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] = x[i] * 0.999f + 0.001f;
  });
  return 2.0 * size_ * sizeof(float) / SecondsSince(start);
}

double MemoryStream::MeasureReadPass() {
  std::atomic<float> sum = 0;
  const auto start = Clock::now();
  team_.ParallelFor(size_, kGrain, [&](int64_t begin, int64_t end) {
    sum = Sum(array_.get() + begin, (end - begin) / 64 * 64);
  });
  return 1.0 * size_ * sizeof(float) / SecondsSince(start);
}

}  // namespace strake
