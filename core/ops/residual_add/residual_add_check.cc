#include "core/ops/residual_add/residual_add_check.h"

#include "core/ops/residual_add/residual_add.h"

namespace strake {

// In place, as gradients are accumulated.
OpCheck ResidualAddCheck(const OpCall& call) {
  return {.tensors = {In(call, "residual"), InOut(call, "y", {0, 1})},
          .run = [](const Context& ctx, const Tensors& t) {
            return ResidualAddForward(ctx, t[1], t[0], t[1]);
          }};
}

}  // namespace strake
