#include "data/permutation.h"

#include <cmath>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

std::vector<int64_t> Values(int64_t n, uint64_t seed, uint64_t epoch) {
  const Permutation permutation(n, seed, epoch);
  std::vector<int64_t> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(permutation(i));
  return values;
}

TEST(PermutationTest, IsABijectionForEverySmallSize) {
  for (int64_t n = 1; n <= 300; ++n) {
    const Permutation permutation(n, 7, 3);
    std::vector<bool> seen(n);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t value = permutation(i);
      ASSERT_TRUE(value >= 0 && value < n) << n;
      ASSERT_FALSE(seen[value]) << n;
      seen[value] = true;
      ASSERT_EQ(permutation.Inverse(value), i) << n;
    }
  }
}

TEST(PermutationTest, InvertsForLargeSizes) {
  for (const int64_t n :
       {int64_t{1} << 20, (int64_t{1} << 20) + 1, int64_t{1000000007}, (int64_t{1} << 32) - 1,
        (int64_t{1} << 32) + 1, (int64_t{1} << 61) + 12345, int64_t{1} << 62}) {
    const Permutation permutation(n, 1, 0);
    int64_t moved = 0;
    for (int64_t k = 0; k < 1000; ++k) {
      for (const int64_t i : {k, n - 1 - k, n / 1000 * k}) {
        const int64_t value = permutation(i);
        ASSERT_TRUE(value >= 0 && value < n) << n;
        ASSERT_EQ(permutation.Inverse(value), i) << n;
        moved += value != i;
      }
    }
    // On average one index of all n stays where it is.
    EXPECT_GT(moved, 2990) << n;
  }
}

TEST(PermutationTest, EverySeedAndEpochDiffers) {
  std::set<std::vector<int64_t>> seen;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    for (uint64_t epoch = 0; epoch < 40; ++epoch) seen.insert(Values(60, seed, epoch));
  }
  EXPECT_EQ(seen.size(), 1600);
}

TEST(PermutationTest, PutsEveryIndexEverywhereEquallyOften) {
  constexpr int kEpochs = 4000;
  for (const int64_t n : {5, 16, 23}) {
    std::vector<int64_t> counts(n * n);
    for (int epoch = 0; epoch < kEpochs; ++epoch) {
      const std::vector<int64_t> values = Values(n, 5, epoch);
      for (int64_t i = 0; i < n; ++i) ++counts[i * n + values[i]];
    }
    const double expected = static_cast<double>(kEpochs) / n;
    double chi_squared = 0;
    for (const int64_t count : counts) {
      chi_squared += (count - expected) * (count - expected) / expected;
    }
    // For a random doubly stochastic table: mean and variance of (n-1)^2 degrees of freedom.
    const double freedom = (n - 1) * (n - 1);
    EXPECT_LT(std::abs(chi_squared - freedom), 5 * std::sqrt(2 * freedom)) << n;
  }
}

TEST(PermutationTest, NeighboursAreNotCorrelated) {
  constexpr int64_t kN = 100000;
  const Permutation permutation(kN, 11, 0);
  double sum = 0;
  for (int64_t i = 0; i + 1 < kN; ++i) {
    sum += (permutation(i) / (kN - 1.0) - 0.5) * (permutation(i + 1) / (kN - 1.0) - 0.5);
  }
  // A product of two uniform deviates has the standard deviation 1/12.
  EXPECT_LT(std::abs(sum), 5 * std::sqrt(kN) / 12);
}

// A resumed run must have the same order of data. Values from an implementation of the header's
// definition in Python.
TEST(PermutationTest, ValuesArePartOfTheRunFormat) {
  EXPECT_EQ(Values(8, 0, 0), (std::vector<int64_t>{1, 0, 7, 6, 4, 5, 3, 2}));
  const Permutation permutation(1000000007, 42, 2);
  EXPECT_EQ(permutation(0), 870960092);
  EXPECT_EQ(permutation(1), 766510527);
  EXPECT_EQ(permutation(1000000006), 358662938);
}

TEST(PermutationDeathTest, SizesAndIndicesOutOfRange) {
  EXPECT_DEATH(Permutation(0, 1, 1), "n 0");
  EXPECT_DEATH(Permutation((int64_t{1} << 62) + 1, 1, 1), "n 4611686018427387905");
  EXPECT_DEATH(Permutation(3, 1, 1)(3), "index 3, n 3");
  EXPECT_DEATH(Permutation(3, 1, 1).Inverse(-1), "value -1, n 3");
}

}  // namespace
}  // namespace strake
