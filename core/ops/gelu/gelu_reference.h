// Reference implementation of GELU. See core/ops/gelu/gelu.h.
#ifndef STRAKE_CORE_OPS_GELU_GELU_REFERENCE_H_
#define STRAKE_CORE_OPS_GELU_GELU_REFERENCE_H_

#include <algorithm>
#include <cstdint>

#include "core/ops/reference_eigen.h"

namespace strake::reference {

inline constexpr double kGeluSqrtTwoOverPi = 0.79788456080286535588;
inline constexpr double kGeluCubic = 0.044715;

template <typename Scalar>
void GeluForward(const Scalar* x, int64_t size, Scalar* y) {
  const Scalar linear(kGeluSqrtTwoOverPi), cubic(kGeluSqrtTwoOverPi * kGeluCubic);
  const ConstArray<Scalar> in(x, size);
  const auto tanh = (in * (linear + cubic * in * in)).tanh();
  Array<Scalar>(y, size) = Scalar(0.5) * in * (Scalar(1) + tanh);
}

template <typename Scalar>
void GeluBackward(const Scalar* dy, const Scalar* x, int64_t size, Scalar* dx) {
  const Scalar linear(kGeluSqrtTwoOverPi), cubic(kGeluSqrtTwoOverPi * kGeluCubic);
  // Works in blocks that fit the stack, because tanh is used twice but evaluated once.
  constexpr int64_t kBlock = 512;
  Eigen::Array<Scalar, Eigen::Dynamic, 1, 0, kBlock, 1> tanh;
  for (int64_t i = 0; i < size; i += kBlock) {
    const int64_t count = std::min(kBlock, size - i);
    const ConstArray<Scalar> in(x + i, count), d(dy + i, count);
    tanh = (in * (linear + cubic * in * in)).tanh();
    const auto slope = linear + Scalar(3) * cubic * in * in;
    Array<Scalar>(dx + i, count) =
        d * Scalar(0.5) * (Scalar(1) + tanh) * (Scalar(1) + in * (Scalar(1) - tanh) * slope);
  }
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_GELU_GELU_REFERENCE_H_
