#include "core/ops/cast/cast_check.h"

#include "core/ops/cast/cast.h"

namespace strake {

// A conversion is one rounding, and so is a sum.
OpCheck CastCheck(const OpCall& call) {
  const bool add = call.GetInt("add") != 0;
  return {.tensors = {In(call, "x"), add ? InOut(call, "y", {0, 1}) : Out(call, "y", {0, 1})},
          .run = [add](const Context& ctx, const Tensors& t) {
            return add ? CastAdd(ctx, t[0], t[1]) : Cast(ctx, t[0], t[1]);
          }};
}

}  // namespace strake
