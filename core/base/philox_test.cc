#include "core/base/philox.h"

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

// Known answers from the Random123 distribution (kat_vectors, philox4x32 10).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, EveryPartOfTheKeyMatters) {
  std::set<uint64_t> seen;
  for (uint64_t seed : {0ull, 1ull, 1ull << 40}) {
    for (RandomUse use : {RandomUse::kInitialWeights, RandomUse::kDataOrder}) {
      for (uint64_t stream : {0ull, 1ull, 1ull << 40}) {
        for (uint64_t index : {0ull, 1ull, 1ull << 40}) {
          seen.insert(Philox(seed, use, stream).Bits(index));
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 3u * 2 * 3 * 3);
}

TEST(PhiloxTest, MomentsOfUniformAndNormal) {
  const Philox random(42, RandomUse::kTesting);
  const int n = 100000;
  double uniform_sum = 0, sum = 0, square = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.Uniform(i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    uniform_sum += u;
    const double x = random.Normal(i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
  }
  // Five standard errors of each mean: sqrt(1/12), 1, sqrt(2) and sqrt(96), over sqrt(n).
  const double five = 5 / std::sqrt(n);
  EXPECT_NEAR(uniform_sum / n, 0.5, five * std::sqrt(1.0 / 12));
  EXPECT_NEAR(sum / n, 0, five);
  EXPECT_NEAR(square / n, 1, five * std::sqrt(2.0));
  EXPECT_NEAR(fourth / n, 3, five * std::sqrt(96.0));
}

TEST(PhiloxTest, NormalsAreTheSingleNormals) {
  const Philox random(42, RandomUse::kTesting);
  for (const uint64_t first : {0, 1, 6, 7}) {
    for (const size_t size : {0, 1, 2, 5, 8}) {
      std::vector<double> values(size);
      random.Normals(first, absl::MakeSpan(values));
      for (size_t i = 0; i < size; ++i) EXPECT_EQ(values[i], random.Normal(first + i));
    }
  }
}

TEST(StableHashTest, KnownAnswers) {
  EXPECT_EQ(StableHash(""), 0xcbf29ce484222325ull);
  EXPECT_EQ(StableHash("a"), 0xaf63dc4c8601ec8cull);
}

}  // namespace
}  // namespace strake
