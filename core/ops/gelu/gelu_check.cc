#include "core/ops/gelu/gelu_check.h"

#include "core/ops/gelu/gelu.h"

namespace strake {

OpCheck GeluCheck(const OpCall& call) {
  if (call.Has("dy")) {
    // In place, as layers use it. Terms of GELU's slope nearly cancel.
    return {.tensors = {InOut(call, "dy", {0, 25}), In(call, "x")},
            .run = [](const Context& ctx, const Tensors& t) {
              return GeluBackward(ctx, t[0], t[1], t[0]);
            }};
  }
  // The errors are those of an exponential and a few products for each element.
  return {.tensors = {In(call, "x"), Out(call, "y", {0, 8})},
          .run = [](const Context& ctx, const Tensors& t) { return GeluForward(ctx, t[0], t[1]); }};
}

}  // namespace strake
