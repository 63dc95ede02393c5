#include "core/ops/scale/scale_check.h"

#include "core/ops/scale/scale.h"

namespace strake {

// Works in place, as gradients are scaled. The number itself is rounded to f32.
OpCheck ScaleCheck(const OpCall& call) {
  return {.tensors = {InOut(call, "x", {0, 2})},
          .run = [factor = call.Get("factor")](const Context& ctx, const Tensors& t) {
            return Scale(ctx, factor, t[0], t[0]);
          }};
}

}  // namespace strake
