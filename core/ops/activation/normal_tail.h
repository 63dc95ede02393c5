// The tail of the normal distribution, for kernels that compute GELU in f32.
//
//   Q(u) = erfc(u / sqrt(2)) / 2 = exp(-u^2 / 2) t P(t),   t = 1 / (1 + 0.34 u),   u >= 0
//
// P has degree 8. Its relative error is below 2^-24 for u up to 14, where f32 has no Q(u) any more.
// Source: Hastings, "Approximations for Digital Computers", 1955, whose form of it is 26.2.17 in
// Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964. The coefficients are new: a
// minimax fit of the relative error by Remez's exchange, in 50 digits.
#ifndef STRAKE_CORE_OPS_ACTIVATION_NORMAL_TAIL_H_
#define STRAKE_CORE_OPS_ACTIVATION_NORMAL_TAIL_H_

namespace strake {

// Single constants, because device code reads no array of the host.
struct NormalTail {
  static constexpr float kSlope = 0.34f;
  // P(t) = k0 + k1 t + ...
  static constexpr float k0 = 0.135620504f, k1 = 0.136112189f, k2 = 0.115197717f, k3 = 0.115358919f,
                         k4 = -0.0447178379f, k5 = 0.202181725f, k6 = -0.273131863f,
                         k7 = 0.139499040f, k8 = -0.0261203770f;
  static constexpr float kDensity = 0.398942280f;  // exp(-u^2 / 2) times this is the density
  static constexpr float kLast = 13.2f;            // Q(u) is 0 from here on
};

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ACTIVATION_NORMAL_TAIL_H_
