#include "core/base/exact_sum.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace strake {
namespace {

// A number of 2048 bits whose bit 0 counts 2^-1100, added bit by bit: slow, and without the limbs,
// digits and windows of the sum under test.
class BitNumber {
 public:
  void Add(double x) {
    int exponent;
    const double fraction = std::frexp(x, &exponent);  // x = fraction 2^exponent
    auto mantissa = static_cast<uint64_t>(std::ldexp(fraction, 53));
    for (int bit = exponent - 53; mantissa != 0; ++bit, mantissa >>= 1) {
      if ((mantissa & 1) != 0) AddBit(bit);
    }
  }

  // Rounds to nearest even by the definition.
  double ToDouble() const {
    int top = kBits - 1;
    while (top >= 0 && !bits_[top]) --top;
    if (top < 0) return 0;
    uint64_t mantissa = 0;
    for (int i = top; i > top - 53; --i) mantissa = 2 * mantissa + bits_[i];
    const bool half = bits_[top - 53];
    const bool above_half =
        std::find(bits_.begin(), bits_.begin() + top - 53, true) != bits_.begin() + top - 53;
    if (half && (above_half || mantissa % 2 == 1)) ++mantissa;
    return std::ldexp(static_cast<double>(mantissa), top - 52 - kPlaces);
  }

 private:
  static constexpr int kBits = 2048, kPlaces = 1100;

  void AddBit(int exponent) {
    int at = exponent + kPlaces;
    for (; bits_[at]; ++at) bits_[at] = false;
    bits_[at] = true;
  }

  std::vector<bool> bits_ = std::vector<bool>(kBits);
};

struct Sum {
  int64_t limbs[kExactSumLimbs] = {};

  void Add(double x) { AddToExactSum(x, limbs); }
  void Add(const Sum& other) {
    for (int k = 0; k < kExactSumLimbs; ++k) limbs[k] += other.limbs[k];
  }
  double ToDouble() const { return ExactSumToDouble(limbs); }
  Sum Carried() const {
    Sum sum = *this;
    CarryExactSum(sum.limbs);
    return sum;
  }
  bool operator==(const Sum&) const = default;
};

// Numbers from 2^lowest to 2^highest, of random exponents and mantissas, so that each of their bits
// counts at least 2^-298.
std::vector<double> RandomTerms(int number, int lowest, int highest, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> terms;
  for (int i = 0; i < number; ++i) {
    const int exponent = lowest + static_cast<int>(random() % (highest - lowest));
    const int dropped = std::max(0, -298 + 52 - exponent);
    const uint64_t mantissa = (random() >> 12 | uint64_t{1} << 52) >> dropped << dropped;
    terms.push_back(std::ldexp(static_cast<double>(mantissa), exponent - 52));
  }
  return terms;
}

TEST(ExactSumTest, EveryMagnitudeInAnyOrderAndGroupingRoundsOnce) {
  struct Range {
    int lowest, highest;
  };
  for (const auto& [lowest, highest] :
       {Range{-298, 266}, {-298, -240}, {200, 266}, {-10, 10}, {-60, 0}, {0, 40}}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      SCOPED_TRACE(::testing::Message() << lowest << " " << highest << " " << seed);
      std::vector<double> terms = RandomTerms(50 * seed, lowest, highest, seed);
      Sum sum;
      BitNumber expected;
      for (const double term : terms) {
        sum.Add(term);
        expected.Add(term);
      }
      EXPECT_EQ(sum.ToDouble(), expected.ToDouble());
      EXPECT_EQ(sum.Carried().ToDouble(), expected.ToDouble());
      std::shuffle(terms.begin(), terms.end(), std::mt19937_64(seed));
      Sum parts[3], total;
      for (size_t i = 0; i < terms.size(); ++i) parts[i * i % 3].Add(terms[i]);
      for (const Sum& part : parts) total.Add(part.Carried());
      EXPECT_EQ(total.Carried(), sum.Carried());
    }
  }
}

// A term at each place alone: no bit is lost or moved at the borders of limbs.
TEST(ExactSumTest, EachTermAloneIsItself) {
  for (int exponent = -298; exponent < 266; ++exponent) {
    for (const double x : RandomTerms(20, exponent, exponent + 1, 1000 + exponent)) {
      Sum sum;
      sum.Add(x);
      EXPECT_EQ(sum.ToDouble(), x);
      sum.Add(0);
      EXPECT_EQ(sum.ToDouble(), x);
    }
  }
}

TEST(ExactSumTest, TiesRoundToEvenAndAnythingBelowBreaksThem) {
  for (const int exponent : {0, 7, 31, 32, 40, 213}) {
    for (const double odd : {0., 1.}) {
      Sum tie;
      tie.Add(std::ldexp(0x1p52 + odd, exponent));
      tie.Add(std::ldexp(0.5, exponent));
      EXPECT_EQ(tie.ToDouble(), std::ldexp(0x1p52 + 2 * odd, exponent));
      tie.Add(0x1p-298);
      EXPECT_EQ(tie.ToDouble(), std::ldexp(0x1p52 + odd + 1, exponent));
    }
  }
}

// Multiplies instead of adding 2^31 - 1 times.
TEST(ExactSumTest, NoLimbOverflowsBelowTheBound) {
  constexpr int64_t kTerms = (int64_t{1} << 31) - 1;
  Sum term, sum, product, full;
  term.Add(std::ldexp(0x1p53 - 1, 40));
  for (int k = 0; k < kExactSumLimbs; ++k) sum.limbs[k] = term.limbs[k] * kTerms;
  sum.Add(term);
  product.Add(std::ldexp(0x1p53 - 1, 40 + 31));
  EXPECT_EQ(sum.Carried(), product.Carried());
  for (int k = 0; k < kExactSumDigits; ++k) full.limbs[k] = kTerms * 0xffffffff;
  full.limbs[kExactSumDigits - 1] = kTerms;
  CarryExactSum(full.limbs);
  for (int k = 0; k < kExactSumDigits; ++k) EXPECT_GE(full.limbs[k], 0) << k;
}

TEST(ExactSumTest, WhatIsNotFiniteShows) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double infinite : {kInfinity, 0x1p266, 1e300}) {
    Sum sum;
    sum.Add(3);
    sum.Add(infinite);
    EXPECT_EQ(sum.ToDouble(), kInfinity);
    EXPECT_EQ(sum.Carried().ToDouble(), kInfinity);
    sum.Add(std::nan(""));
    EXPECT_TRUE(std::isnan(sum.ToDouble()));
    Sum nan;
    nan.Add(sum.Carried());
    EXPECT_TRUE(std::isnan(nan.ToDouble()));
  }
}

// What is below 2^-298 is dropped, and nothing else of its term.
TEST(ExactSumTest, DropsWhatIsBelowTheLowestLimb) {
  Sum sum;
  for (const double tiny : {0x1.8p-299, 1e-200, 0x1p-1022, 0x1p-1074, 0.}) sum.Add(tiny);
  EXPECT_EQ(sum.ToDouble(), 0);
  sum.Add(0x1.8p-298);
  EXPECT_EQ(sum.ToDouble(), 0x1p-298);
  sum.Add(std::ldexp(0x1p52 + 1, -300));
  EXPECT_EQ(sum.ToDouble(), std::ldexp(0x1p50 + 1, -298));
}

}  // namespace
}  // namespace strake
