// Common parts of kernel tests: random GuardedBuffers, and comparisons with a truth in f64.
#ifndef STRAKE_CORE_TESTING_KERNEL_TEST_UTIL_H_
#define STRAKE_CORE_TESTING_KERNEL_TEST_UTIL_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/philox.h"
#include "core/testing/guarded_buffer.h"
#include "gtest/gtest.h"

namespace strake::testing {

// Half the distance between neighbours around 1: the relative error of rounding to T.
template <typename T>
inline constexpr double kRoundoff = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-8;

template <typename T>
void FillNormal(const GuardedBuffer<T>& x, uint64_t stream, float scale = 1, float mean = 0) {
  const Philox philox(1, RandomUse::kTesting, stream);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = T(mean + scale * static_cast<float>(philox.Normal(i)));
  }
}

// Integers in [-4, 4]: sums of fewer than 2^21 of them are exact in f32, in any order.
template <typename T>
void FillSmallIntegers(const GuardedBuffer<T>& x, uint64_t stream) {
  const Philox philox(1, RandomUse::kTesting, stream);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = T(static_cast<float>(static_cast<int>(philox.Bits(i) % 9) - 4));
  }
}

template <typename T>
std::vector<double> ToDouble(const T* x, size_t size) {
  std::vector<double> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = static_cast<double>(static_cast<float>(x[i]));
  return values;
}

template <typename T>
std::vector<double> ToDouble(const GuardedBuffer<T>& x) {
  return ToDouble(x.data(), x.size());
}

template <typename T>
std::vector<T> Copy(const GuardedBuffer<T>& x) {
  return std::vector<T>(x.begin(), x.end());
}

template <typename T>
bool SameBits(const GuardedBuffer<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (b.empty() || std::memcmp(a.data(), b.data(), b.size() * sizeof(T)) == 0);
}

// Compares the largest error, relative to the largest element of the truth.
inline void ExpectNear(const std::vector<double>& got, const std::vector<double>& truth,
                       double bound, const char* what) {
  ASSERT_EQ(got.size(), truth.size());
  double error = 0, largest = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    error = std::max(error, std::isnan(got[i]) ? INFINITY : std::abs(got[i] - truth[i]));
    largest = std::max(largest, std::abs(truth[i]));
  }
  EXPECT_GT(largest, truth.empty() ? -1 : 0) << what;
  EXPECT_LE(error, bound * largest) << what;
}

// Expects each element within `bound` of the truth, relative to it.
inline void ExpectEachNear(const std::vector<double>& got, const std::vector<double>& truth,
                           double bound, double absolute, const char* what) {
  ASSERT_EQ(got.size(), truth.size());
  for (size_t i = 0; i < truth.size(); ++i) {
    ASSERT_LE(std::abs(got[i] - truth[i]), bound * std::abs(truth[i]) + absolute)
        << what << " " << i << ": " << got[i] << ", not " << truth[i];
  }
}

// The error of a sum of n terms of random sign is about sqrt(n) roundings of its largest partial
// sums, plus the roundings of the operations of each term; the factor 4 is for the tail.
inline double SumBound(double n) { return 4 * (std::sqrt(n) + 8) * 0x1p-24; }

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_KERNEL_TEST_UTIL_H_
