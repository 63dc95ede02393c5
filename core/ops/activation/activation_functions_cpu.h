// Included by kernels' _cpu.cc files: an activation function's value and slope, in vectors of f32.
// See core/ops/cpu/isa.h for how such a source is compiled.
//
//   Activation<kKind> f(x);   f.Value() = f(x),   f.TimesSlope(d) = d f'(x)
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_FUNCTIONS_CPU_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_FUNCTIONS_CPU_H_

#include "core/ops/activation/activation_kind.h"
#include "core/ops/activation/normal_tail.h"
#include "core/ops/cpu/simd.h"

namespace strake::cpu::STRAKE_CPU_ISA {

template <ActivationKind kKind>
struct Activation;

template <>
struct Activation<ActivationKind::kGeluTanh> {
  static constexpr float kLinear = 0.79788456080286535588f;  // sqrt(2 / pi)
  static constexpr float kCubic = 0.79788456080286535588f * 0.044715f;

  // (1 + tanh(z)) / 2 is the sigmoid of 2 z.
  STRAKE_INLINE explicit Activation(Vec x) : x(x), gate(2 * x * (kLinear + kCubic * x * x)) {}
  STRAKE_INLINE Vec Value() const { return x * gate.value; }
  STRAKE_INLINE Vec TimesSlope(Vec d) const {
    const Vec slope = 2 * x * (kLinear + 3 * kCubic * x * x);
    return d * gate.value * (1 + gate.complement * slope);
  }
  Vec x;
  Sigmoid gate;
};

template <>
struct Activation<ActivationKind::kGelu> {
  STRAKE_INLINE explicit Activation(Vec x) : x(x) {
    const Vec size = x < 0 ? -x : x;
    exponential = Exp(x * x * -0.5f);
    const Vec t = 1 / (1 + NormalTail::kSlope * size);
    Vec p = t * NormalTail::k8 + NormalTail::k7;
    p = t * p + NormalTail::k6;
    p = t * p + NormalTail::k5;
    p = t * p + NormalTail::k4;
    p = t * p + NormalTail::k3;
    p = t * p + NormalTail::k2;
    p = t * p + NormalTail::k1;
    p = t * p + NormalTail::k0;
    // Exp() is never 0.
    exponential = size > NormalTail::kLast ? Vec{} : exponential;
    const Vec tail = exponential * (t * p);
    cdf = x < 0 ? tail : 1 - tail;
  }
  STRAKE_INLINE Vec Value() const { return x * cdf; }
  STRAKE_INLINE Vec TimesSlope(Vec d) const {
    return d * (cdf + x * (exponential * NormalTail::kDensity));
  }
  Vec x, exponential, cdf;
};

template <>
struct Activation<ActivationKind::kSilu> {
  STRAKE_INLINE explicit Activation(Vec x) : x(x), sigmoid(x) {}
  STRAKE_INLINE Vec Value() const { return x * sigmoid.value; }
  STRAKE_INLINE Vec TimesSlope(Vec d) const {
    return d * (sigmoid.value * (1 + x * sigmoid.complement));
  }
  Vec x;
  Sigmoid sigmoid;
};

// A NaN stays NaN.
template <>
struct Activation<ActivationKind::kRelu> {
  STRAKE_INLINE explicit Activation(Vec x) : x(x) {}
  STRAKE_INLINE Vec Value() const { return x <= 0 ? Vec{} : x; }
  STRAKE_INLINE Vec TimesSlope(Vec d) const { return x <= 0 ? Vec{} : d; }
  Vec x;
};

}  // namespace strake::cpu::STRAKE_CPU_ISA

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_FUNCTIONS_CPU_H_
