// Reference implementation of the sum of squares. See core/ops/squared_norm/squared_norm.h.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_REFERENCE_H_

#include <complex>
#include <cstdint>

#include "core/ops/squared_norm/squared_norm_unit.h"

namespace strake::reference {

// The type of sums: double, also for f32.
template <typename Scalar>
struct SumType {
  using type = double;
};
template <>
struct SumType<std::complex<double>> {
  using type = std::complex<double>;
};

// The sum over a unit, of which the first `size` elements exist. It is kept in lanes, which a
// compiler may vectorize without changing the order of the additions. Lanes are added as a GPU's
// threads do, each of which has a quad of them. Squares of f32 are exact in double, so that it does
// not matter whether the compiler fuses a product and a sum.
template <typename Scalar>
typename SumType<Scalar>::type SquaredNormOfUnit(const Scalar* x, int64_t size) {
  using Sum = typename SumType<Scalar>::type;
  constexpr int64_t kLanes = 16;
  Sum lanes[kLanes] = {};
  if (size == kSquaredNormUnit) {
    for (int64_t i = 0; i < kSquaredNormUnit; i += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] += Sum(x[i + l]) * Sum(x[i + l]);
    }
  } else {
    for (int64_t i = 0; i < size; ++i) lanes[i % kLanes] += Sum(x[i]) * Sum(x[i]);
  }
  Sum quads[4];
  for (int64_t q = 0; q < 4; ++q) {
    const Sum* quad = lanes + 4 * q;
    quads[q] = (quad[0] + quad[1]) + (quad[2] + quad[3]);
  }
  return (quads[0] + quads[2]) + (quads[1] + quads[3]);
}

template <typename Scalar>
void SquaredNormBackward(const Scalar* x, typename SumType<Scalar>::type dsum, int64_t size,
                         Scalar* dx) {
  using Sum = typename SumType<Scalar>::type;
  for (int64_t i = 0; i < size; ++i) dx[i] = Scalar(2.0 * dsum * Sum(x[i]));
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_REFERENCE_H_
