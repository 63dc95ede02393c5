// IEEE binary16, by its bits: a dtype of files alone.
#ifndef STRAKE_CORE_BASE_HALF_H_
#define STRAKE_CORE_BASE_HALF_H_

#include <cmath>
#include <cstdint>
#include <cstring>

namespace strake {

// The nearest binary16, of two equally near ones the even one. Infinity from 65520 on; a NaN stays
// one.
inline uint16_t HalfBits(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  const uint32_t sign = (word >> 16) & 0x8000u;
  uint32_t magnitude = word & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Subnormal: the sum with 0.5, whose last bit is worth 2^-24 as that of the result is, rounds.
    float sum;
    std::memcpy(&sum, &magnitude, sizeof(sum));
    sum += 0.5f;
    std::memcpy(&word, &sum, sizeof(word));
    return static_cast<uint16_t>(sign | (word - 0x3f000000u));
  }
  // The exponent's bias is 112 less.
  magnitude += 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23);
  return static_cast<uint16_t>(sign | (magnitude >> 13));
}

// The value of a binary16, exactly: shifted to binary32's positions its exponent is 112 too small,
// also for subnormals; infinity and NaN need all bits of the exponent set.
inline float HalfValue(uint16_t half) {
  const uint32_t shifted = (half & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &shifted, sizeof(magnitude));
  magnitude *= 0x1p112f;
  uint32_t word;
  std::memcpy(&word, &magnitude, sizeof(word));
  const uint32_t special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  word |= special | (half & 0x8000u) << 16;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

// out = the nearest binary16s. Returns the index of the first finite value that became infinite, or
// `count`.
inline int64_t ToHalf(const float* values, int64_t count, uint16_t* out) {
  int64_t first_too_large = count;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = HalfBits(values[i]);
    const bool too_large = (out[i] & 0x7fffu) == 0x7c00u && std::isfinite(values[i]);
    if (too_large && first_too_large == count) first_too_large = i;
  }
  return first_too_large;
}

}  // namespace strake

#endif  // STRAKE_CORE_BASE_HALF_H_
