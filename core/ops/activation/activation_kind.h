// The activation functions of MLPs.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_KIND_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_KIND_H_

namespace strake {

// kGeluTanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
// kGelu:     0.5 x (1 + erf(x / sqrt(2)))
// kSilu:     x / (1 + exp(-x))
// kRelu:     max(x, 0)
enum class ActivationKind { kGeluTanh, kGelu, kSilu, kRelu };

inline constexpr ActivationKind kActivationKinds[] = {
    ActivationKind::kGeluTanh, ActivationKind::kGelu, ActivationKind::kSilu, ActivationKind::kRelu};

// Returns body.template operator()<kKind>() for the kind that is known at run time.
template <typename Body>
auto DispatchActivation(ActivationKind kind, Body&& body) {
  switch (kind) {
    case ActivationKind::kGeluTanh:
      return body.template operator()<ActivationKind::kGeluTanh>();
    case ActivationKind::kGelu:
      return body.template operator()<ActivationKind::kGelu>();
    case ActivationKind::kSilu:
      return body.template operator()<ActivationKind::kSilu>();
    case ActivationKind::kRelu:
      break;
  }
  return body.template operator()<ActivationKind::kRelu>();
}

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_KIND_H_
