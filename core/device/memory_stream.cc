#include "core/device/memory_stream.h"

#include <algorithm>
#include <chrono>

namespace strake {
namespace {

constexpr int64_t kGrain = 4096 / sizeof(float);  // whole pages

}  // namespace

MemoryStream::MemoryStream(ThreadTeam* team, size_t num_bytes)
    : team_(*team), size_(num_bytes / sizeof(float)), array_(new float[size_]) {
  // Memory lies near the thread that touches it first.
  team_.ParallelFor(size_, kGrain, [&](int64_t begin, int64_t end) {
    std::fill(array_.get() + begin, array_.get() + end, 1.0f);
  });
}

double MemoryStream::MeasurePass() {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  team_.ParallelFor(size_, kGrain, [x = array_.get()](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] = x[i] * 0.999f + 0.001f;
  });
  const std::chrono::duration<double> elapsed = Clock::now() - start;
  return 2.0 * size_ * sizeof(float) / elapsed.count();
}

}  // namespace strake
