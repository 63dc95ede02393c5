// Reference implementation of the sum of squares. See core/ops/squared_norm/squared_norm.h.
#ifndef STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_REFERENCE_H_
#define STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_REFERENCE_H_

#include <complex>
#include <cstdint>

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

// The sum over one block. It is kept in lanes, which a compiler may vectorize without changing the
// order of the additions, whatever the alignment of x.
template <typename Scalar>
typename SumType<Scalar>::type SquaredNorm(const Scalar* x, int64_t size) {
  using Sum = typename SumType<Scalar>::type;
  constexpr int64_t kLanes = 32;
  Sum lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += Sum(x[i + l]) * Sum(x[i + l]);
  }
  for (int64_t l = 0; i < size; ++i, ++l) lanes[l] += Sum(x[i]) * Sum(x[i]);
  Sum sum = 0;
  for (const Sum& lane : lanes) sum += lane;
  return sum;
}

template <typename Scalar>
void SquaredNormBackward(const Scalar* x, typename SumType<Scalar>::type dsum, int64_t size,
                         Scalar* dx) {
  using Sum = typename SumType<Scalar>::type;
  for (int64_t i = 0; i < size; ++i) dx[i] = Scalar(2.0 * dsum * Sum(x[i]));
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_SQUARED_NORM_SQUARED_NORM_REFERENCE_H_
