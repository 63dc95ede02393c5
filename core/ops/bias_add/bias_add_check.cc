#include "core/ops/bias_add/bias_add_check.h"

#include "core/ops/bias_add/bias_add.h"

namespace strake {

OpCheck BiasAddCheck(const OpCall& call) {
  if (call.Has("dy")) {
    const double rows = static_cast<double>(call.ShapeOf("dy")[0]);
    return {.tensors = {In(call, "dy"), Grad(call, "dbias", rows)},
            .run = [](const Context& ctx, const Tensors& t) {
              return BiasAddBackward(ctx, t[0], t[1]);
            }};
  }
  // In place, as layers use it.
  return {.tensors = {In(call, "bias"), InOut(call, "y", {0, 1})},
          .run = [](const Context& ctx, const Tensors& t) {
            return BiasAddForward(ctx, t[1], t[0], t[1]);
          }};
}

}  // namespace strake
