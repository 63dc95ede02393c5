// Included by kernels' .cu files: activation functions in f32.
//
//   Function::Value(x) = f(x),   Function::Both(x) = {f(x), f'(x)}
//
// Each Function is the `type` of ActivationFunction<kKind>.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_FUNCTIONS_CUDA_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_FUNCTIONS_CUDA_H_

#include "core/cuda/portable.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/activation/normal_tail.h"
#include "core/ops/cuda/sigmoid.h"

namespace strake::cuda {

struct ValueAndSlope {
  float value, slope;
};

// (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)) = 1 / (1 + 2^-z), with z = x (kLinear + kCubic x^2).
// f' = s + x (s (1 - s)) 2 u'.
struct Gelu {
  static constexpr float kTwoSqrtTwoOverPi = 1.59576912160573071176f;
  static constexpr float kLinear = kTwoSqrtTwoOverPi * kLog2E;
  static constexpr float kCubic = kLinear * 0.044715f;

  static __device__ float Value(float x) {
    return TimesSigmoid2(x, x * (kLinear + kCubic * x * x));
  }
  static __device__ ValueAndSlope Both(float x) {
    const SigmoidPair s = Sigmoid2(x * (kLinear + kCubic * x * x));
    const float slope = kTwoSqrtTwoOverPi * (1 + 3 * 0.044715f * x * x);
    // This order makes the first product 0 where x^3 would overflow.
    return {x * s.value, s.value + x * (s.value * s.complement) * slope};
  }
};

struct GeluErf {
  // The density without its factor: 0 where x is far from 0, since exp2f gives 0.
  static __device__ float Exponential(float x) { return exp2f(x * x * (-0.5f * kLog2E)); }
  static __device__ float Cdf(float x, float exponential) {
    const float t = __fdividef(1.f, 1 + NormalTail::kSlope * fabsf(x));
    float p = t * NormalTail::k8 + NormalTail::k7;
    p = t * p + NormalTail::k6;
    p = t * p + NormalTail::k5;
    p = t * p + NormalTail::k4;
    p = t * p + NormalTail::k3;
    p = t * p + NormalTail::k2;
    p = t * p + NormalTail::k1;
    p = t * p + NormalTail::k0;
    const float tail = exponential * (t * p);
    return x < 0 ? tail : 1 - tail;
  }
  static __device__ float Value(float x) { return x * Cdf(x, Exponential(x)); }
  static __device__ ValueAndSlope Both(float x) {
    const float exponential = Exponential(x), cdf = Cdf(x, exponential);
    return {x * cdf, cdf + x * (exponential * NormalTail::kDensity)};
  }
};

struct Silu {
  static __device__ float Value(float x) { return TimesSigmoid2(x, x * kLog2E); }
  static __device__ ValueAndSlope Both(float x) {
    const SigmoidPair s = Sigmoid2(x * kLog2E);
    return {x * s.value, s.value * (1 + x * s.complement)};
  }
};

// A NaN stays NaN.
struct Relu {
  static __device__ float Value(float x) { return x <= 0 ? 0 : x; }
  static __device__ ValueAndSlope Both(float x) { return {Value(x), x <= 0 ? 0.f : 1.f}; }
};

template <ActivationKind kKind>
struct ActivationFunction;
template <>
struct ActivationFunction<ActivationKind::kGeluTanh> {
  using type = Gelu;
};
template <>
struct ActivationFunction<ActivationKind::kGelu> {
  using type = GeluErf;
};
template <>
struct ActivationFunction<ActivationKind::kSilu> {
  using type = Silu;
};
template <>
struct ActivationFunction<ActivationKind::kRelu> {
  using type = Relu;
};

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_FUNCTIONS_CUDA_H_
