// Reference implementation of activation functions. See core/ops/activation/activation.h.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_REFERENCE_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_REFERENCE_H_

#include <cmath>
#include <complex>
#include <cstdint>

#include "core/ops/activation/activation_kind.h"
#include "core/ops/reference_eigen.h"

namespace strake::reference {

inline constexpr double kGeluLinear = 0.79788456080286535588;  // sqrt(2 / pi)
inline constexpr double kGeluCubic = 0.044715;

// The normal distribution's density and cumulative distribution function. erfc() keeps the
// relative precision of the lower tail, which 1 + erf() would lose.
template <typename Scalar>
Scalar NormalDensity(Scalar x) {
  using std::exp;
  return Scalar(0.39894228040143267794) * exp(Scalar(-0.5) * x * x);
}
template <typename Scalar>
Scalar NormalCdf(Scalar x) {
  return Scalar(0.5) * std::erfc(-x * Scalar(0.70710678118654752440));
}
// Taylor's series to the first order: exact for the imaginary part of the complex step, whose
// square is below any rounding.
inline std::complex<double> NormalCdf(std::complex<double> x) {
  return {NormalCdf(x.real()), NormalDensity(x.real()) * x.imag()};
}

// f(x) and f'(x).
template <typename Scalar>
struct ValueAndSlope {
  Scalar value, slope;
};

template <ActivationKind kKind, typename Scalar>
ValueAndSlope<Scalar> Activate(Scalar x) {
  using std::exp;
  using std::tanh;
  if constexpr (kKind == ActivationKind::kGeluTanh) {
    const Scalar linear(kGeluLinear), cubic(kGeluLinear * kGeluCubic);
    const Scalar t = tanh(x * (linear + cubic * x * x));
    const Scalar slope = linear + Scalar(3) * cubic * x * x;
    return {Scalar(0.5) * x * (Scalar(1) + t),
            Scalar(0.5) * (Scalar(1) + t) * (Scalar(1) + x * (Scalar(1) - t) * slope)};
  } else if constexpr (kKind == ActivationKind::kGelu) {
    const Scalar cdf = NormalCdf(x);
    return {x * cdf, cdf + x * NormalDensity(x)};
  } else if constexpr (kKind == ActivationKind::kSilu) {
    const Scalar sigmoid = Scalar(1) / (Scalar(1) + exp(-x));
    return {x * sigmoid, sigmoid * (Scalar(1) + x * (Scalar(1) - sigmoid))};
  } else {
    return Real(x) <= 0 ? ValueAndSlope<Scalar>{Scalar(0), Scalar(0)}
                        : ValueAndSlope<Scalar>{x, Scalar(1)};
  }
}

template <typename Scalar>
void ActivationForward(ActivationKind kind, const Scalar* x, int64_t size, Scalar* y) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    for (int64_t i = 0; i < size; ++i) y[i] = Activate<kKind>(x[i]).value;
  });
}

template <typename Scalar>
void ActivationBackward(ActivationKind kind, const Scalar* dy, const Scalar* x, int64_t size,
                        Scalar* dx) {
  DispatchActivation(kind, [&]<ActivationKind kKind>() {
    for (int64_t i = 0; i < size; ++i) dx[i] = dy[i] * Activate<kKind>(x[i]).slope;
  });
}

}  // namespace strake::reference

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_REFERENCE_H_
