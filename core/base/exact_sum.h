// An exact sum of doubles that are not negative: a number in fixed point, to which terms are added
// without rounding. So it does not depend on their order, nor on how they were grouped.
//
//   sum = sum_k limb[k] 2^(32 k - 298),  k < kExactSumDigits
//
// A limb takes digits of 32 bits and carries later. Two exact sums are added limb by limb. Behind
// these limbs are the numbers of infinite terms and of NaN terms.
//
// Terms that are multiples of 2^-298, the square of the least f32, are added as they are. Bits of a
// term below that are dropped: an error below 2^-298 per term. Terms of 2^266 and more count as
// infinite; 64 squares of f32 are below 2^262. Bound: 2^31 terms between two calls of
// CarryExactSum(), and 2^31 carried sums added to each other, before a limb overflows.
//
// Limbs are int64_t*, or a kernel's shared memory. Source: Kulisch, "Very fast and exact
// accumulation of products", 2011, with carries that wait.
#ifndef STRAKE_CORE_BASE_EXACT_SUM_H_
#define STRAKE_CORE_BASE_EXACT_SUM_H_

#include <cmath>
#include <cstdint>
#include <cstring>

// Kernels include this, too.
#ifdef __CUDACC__
#define STRAKE_HOST_DEVICE __host__ __device__
#else
#define STRAKE_HOST_DEVICE
#endif

namespace strake {

inline constexpr int kExactSumDigits = 18;
inline constexpr int kExactSumInfinities = kExactSumDigits;
inline constexpr int kExactSumNans = kExactSumDigits + 1;
inline constexpr int kExactSumLimbs = kExactSumDigits + 2;
inline constexpr int kExactSumLowestExponent = -298;

// Adds a term x >= 0, or NaN. Limbs are `stride` integers apart.
template <typename Limbs>
STRAKE_HOST_DEVICE void AddToExactSum(double x, Limbs limbs, int stride = 1) {
  constexpr int kMantissaBits = 52, kBias = 1023, kInfiniteExponent = kBias + 266;
  uint64_t bits;
  memcpy(&bits, &x, sizeof(bits));
  const int exponent = static_cast<int>(bits >> kMantissaBits & 0x7ff);
  if (exponent >= kInfiniteExponent) {
    limbs[(x != x ? kExactSumNans : kExactSumInfinities) * stride] += 1;
    return;
  }
  uint64_t mantissa = bits & ((uint64_t{1} << kMantissaBits) - 1);
  if (exponent > 0) mantissa |= uint64_t{1} << kMantissaBits;
  // The place of the mantissa's lowest bit.
  int place = exponent - kBias - kMantissaBits - kExactSumLowestExponent;
  if (place < 0) {
    mantissa = place > -64 ? mantissa >> -place : 0;
    place = 0;
  }
  const int limb = place / 32, shift = place % 32;
  const uint64_t rest = mantissa >> (32 - shift);
  limbs[limb * stride] += static_cast<int64_t>(mantissa << shift & 0xffffffffu);
  limbs[(limb + 1) * stride] += static_cast<int64_t>(rest & 0xffffffffu);
  limbs[(limb + 2) * stride] += static_cast<int64_t>(rest >> 32);
}

// Leaves a digit of 32 bits in each limb but the last. Equal sums then have equal limbs.
template <typename Limbs>
STRAKE_HOST_DEVICE void CarryExactSum(Limbs limbs) {
  int64_t carry = 0;
  for (int k = 0; k + 1 < kExactSumDigits; ++k) {
    const int64_t limb = limbs[k] + carry;
    limbs[k] = limb & 0xffffffff;
    carry = limb >> 32;
  }
  limbs[kExactSumDigits - 1] += carry;
}

// The sum, rounded once, to nearest even. The limbs may hold carries.
STRAKE_HOST_DEVICE inline double ExactSumToDouble(const int64_t* limbs) {
  if (limbs[kExactSumNans] != 0) return NAN;
  if (limbs[kExactSumInfinities] != 0) return INFINITY;
  // The highest digit that is not 0, the two below it, and whether any other is not 0.
  uint64_t high = 0, middle = 0, low = 0;
  bool rest = false;
  int top = 0;
  // The same of the digits so far.
  uint64_t last = 0, before_last = 0, carry = 0;
  bool earlier = false;
  for (int k = 0; k <= kExactSumDigits; ++k) {
    const uint64_t limb = carry + (k < kExactSumDigits ? static_cast<uint64_t>(limbs[k]) : 0);
    const uint64_t digit = limb & 0xffffffffu;
    carry = limb >> 32;
    if (digit != 0) {
      high = digit;
      middle = last;
      low = before_last;
      rest = earlier;
      top = k;
    }
    earlier |= before_last != 0;
    before_last = last;
    last = digit;
  }
  if (high == 0) return 0;
  int shift = 0;
  while ((high << shift >> 31) == 0) ++shift;
  // 64 bits, the first of which is set. The last also stands for all bits below, which decides
  // between two doubles just as these would.
  uint64_t window = (high << 32 | middle) << shift | low >> (32 - shift);
  if (rest || (low << shift & 0xffffffffu) != 0) window |= 1;
  return ldexp(static_cast<double>(window), 32 * (top - 1) - shift + kExactSumLowestExponent);
}

}  // namespace strake

#undef STRAKE_HOST_DEVICE

#endif  // STRAKE_CORE_BASE_EXACT_SUM_H_
