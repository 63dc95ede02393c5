#include "core/ops/gated_activation/gated_activation_check.h"

#include "core/ops/gated_activation/gated_activation.h"

namespace strake {

template <ActivationKind kKind>
OpCheck GatedActivationCheck(const OpCall& call) {
  if (call.Has("dy")) {
    // Layers use it in place. Terms of GELU's slope nearly cancel.
    constexpr bool kGelu = kKind == ActivationKind::kGeluTanh || kKind == ActivationKind::kGelu;
    return {.tensors = {In(call, "dy"), InOut(call, "gate_up", {0, kGelu ? 25.0 : 8.0})},
            .run = [](const Context& ctx, const Tensors& t) {
              return GatedActivationBackward(ctx, kKind, t[0], t[1], t[1]);
            }};
  }
  // The errors are those of an exponential and a few products for each element.
  return {.tensors = {In(call, "gate_up"), Out(call, "y", {0, 8})},
          .run = [](const Context& ctx, const Tensors& t) {
            return GatedActivationForward(ctx, kKind, t[0], t[1]);
          }};
}

template OpCheck GatedActivationCheck<ActivationKind::kGeluTanh>(const OpCall&);
template OpCheck GatedActivationCheck<ActivationKind::kGelu>(const OpCall&);
template OpCheck GatedActivationCheck<ActivationKind::kSilu>(const OpCall&);
template OpCheck GatedActivationCheck<ActivationKind::kRelu>(const OpCall&);

}  // namespace strake
