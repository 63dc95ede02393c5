#include "core/base/half.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace strake {
namespace {

constexpr uint16_t kInfinity = 0x7c00;

// The definition: sign, exponent and mantissa.
double ValueOf(uint16_t half) {
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(HalfTest, EveryFiniteValueIsExactAndComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if ((half & kInfinity) == kInfinity) continue;
    ASSERT_EQ(HalfValue(half), ValueOf(half)) << bits;
    ASSERT_EQ(HalfBits(HalfValue(half)), half) << bits;
  }
}

TEST(HalfTest, RoundsToTheNearestAndTiesToTheEven) {
  for (uint16_t half = 0; half + 1 < kInfinity; ++half) {
    const uint16_t next = half + 1;
    const auto middle = static_cast<float>((ValueOf(half) + ValueOf(next)) / 2);
    ASSERT_EQ(HalfBits(middle), half % 2 == 0 ? half : next) << half;
    ASSERT_EQ(HalfBits(std::nextafter(middle, 0.0f)), half) << half;
    ASSERT_EQ(HalfBits(std::nextafter(middle, 1e9f)), next) << half;
    ASSERT_EQ(HalfBits(-middle), 0x8000 | HalfBits(middle)) << half;
  }
}

TEST(HalfTest, WhatIsNotFinite) {
  constexpr float kLarge = std::numeric_limits<float>::infinity();
  EXPECT_EQ(HalfBits(kLarge), kInfinity);
  EXPECT_EQ(HalfBits(-kLarge), 0x8000 | kInfinity);
  EXPECT_EQ(HalfBits(65520), kInfinity);
  EXPECT_EQ(HalfBits(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(HalfBits(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(HalfValue(kInfinity), kLarge);
  EXPECT_EQ(HalfValue(0x8000 | kInfinity), -kLarge);
  EXPECT_TRUE(std::isnan(HalfValue(HalfBits(std::nanf("")))));
}

TEST(HalfTest, FindsTheFirstThatIsTooLarge) {
  const float values[] = {1, std::numeric_limits<float>::infinity(), -65520, 1e6f};
  uint16_t out[4];
  EXPECT_EQ(ToHalf(values, 4, out), 2);
  EXPECT_EQ(out[0], 0x3c00);
  EXPECT_EQ(ToHalf(values, 2, out), 2);
}

}  // namespace
}  // namespace strake
