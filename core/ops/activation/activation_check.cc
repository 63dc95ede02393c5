#include "core/ops/activation/activation_check.h"

#include "core/ops/activation/activation.h"

namespace strake {

template <ActivationKind kKind>
OpCheck ActivationCheck(const OpCall& call) {
  if (call.Has("dy")) {
    // Layers use it in place. Terms of GELU's slope nearly cancel.
    return {.tensors = {InOut(call, "dy", {0, 25}), In(call, "x")},
            .run = [](const Context& ctx, const Tensors& t) {
              return ActivationBackward(ctx, kKind, t[0], t[1], t[0]);
            }};
  }
  // The errors are those of an exponential and a few products for each element.
  return {.tensors = {In(call, "x"), Out(call, "y", {0, 8})},
          .run = [](const Context& ctx, const Tensors& t) {
            return ActivationForward(ctx, kKind, t[0], t[1]);
          }};
}

template OpCheck ActivationCheck<ActivationKind::kGeluTanh>(const OpCall&);
template OpCheck ActivationCheck<ActivationKind::kGelu>(const OpCall&);
template OpCheck ActivationCheck<ActivationKind::kSilu>(const OpCall&);
template OpCheck ActivationCheck<ActivationKind::kRelu>(const OpCall&);

}  // namespace strake
