#include "core/ops/squared_norm/squared_norm_check.h"

#include "core/ops/squared_norm/squared_norm.h"

namespace strake {

// The squares of f32 are exact in double, and units are summed in one order on every device.
OpCheck SquaredNormCheck(const OpCall& call) {
  if (call.Has("dsum")) {
    return {.tensors = {In(call, "x"), In(call, "dsum"), Out(call, "dx", {0, 3})},
            .run = [](const Context& ctx, const Tensors& t) {
              return SquaredNormBackward(ctx, t[0], t[1], t[2]);
            }};
  }
  return {.tensors = {In(call, "x"), InOut(call, "sum", kExact)},
          .run = [](const Context& ctx, const Tensors& t) {
            return SquaredNormForward(ctx, t[0], t[1]);
          }};
}

}  // namespace strake
