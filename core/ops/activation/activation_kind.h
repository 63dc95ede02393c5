// The activation functions of MLPs.
#ifndef STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_KIND_H_
#define STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_KIND_H_

namespace strake {

// kGeluTanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
// kGelu:     0.5 x (1 + erf(x / sqrt(2)))
// kSilu:     x / (1 + exp(-x))
// kRelu:     max(x, 0)
enum class ActivationKind { kGeluTanh, kGelu, kSilu, kRelu };

}  // namespace strake

#endif  // STRAKE_CORE_OPS_ACTIVATION_ACTIVATION_KIND_H_
