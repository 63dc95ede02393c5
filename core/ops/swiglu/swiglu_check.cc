#include "core/ops/swiglu/swiglu_check.h"

#include "core/ops/swiglu/swiglu.h"

namespace strake {

// The errors are those of an exponential and a few products for each element.
OpCheck SwigluCheck(const OpCall& call) {
  if (call.Has("dy")) {
    // In place, as layers use it.
    return {.tensors = {In(call, "dy"), InOut(call, "gate_up", {0, 8})},
            .run = [](const Context& ctx, const Tensors& t) {
              return SwigluBackward(ctx, t[0], t[1], t[1]);
            }};
  }
  return {
      .tensors = {In(call, "gate_up"), Out(call, "y", {0, 8})},
      .run = [](const Context& ctx, const Tensors& t) { return SwigluForward(ctx, t[0], t[1]); }};
}

}  // namespace strake
