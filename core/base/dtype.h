// Element types of tensors.
#ifndef STRAKE_CORE_BASE_DTYPE_H_
#define STRAKE_CORE_BASE_DTYPE_H_

#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace strake {

// kF64 and kC128 exist only for the reference ops: for the oracle in double, and for the complex
// step.
enum class DType : uint8_t { kF32, kBf16, kF64, kC128, kI32, kI64, kU16 };

// The upper half of an IEEE binary32, rounded to nearest even; NaN stays NaN.
struct Bf16 {
  Bf16() = default;
  explicit Bf16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof(word));
    const bool is_nan = (word & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);
    bits = static_cast<uint16_t>((is_nan ? (word | 0x400000u) : rounded) >> 16);
  }
  explicit operator float() const {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &word, sizeof(value));
    return value;
  }
  uint16_t bits;
};

// Bytes of one element.
size_t DTypeSize(DType dtype);

// Dtype of sums of such elements, and of values derived from sums: f32 for bf16, else `dtype`
// itself.
DType AccumulationDType(DType dtype);

// "f32", "bf16", "f64", "c128", "i32", "i64", "u16".
const char* DTypeName(DType dtype);

// DTypeOf<float>::value == DType::kF32, and so on.
template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<Bf16> {
  static constexpr DType value = DType::kBf16;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<std::complex<double>> {
  static constexpr DType value = DType::kC128;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::kU16;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_DTYPE_H_
