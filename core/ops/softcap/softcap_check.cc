#include "core/ops/softcap/softcap_check.h"

#include "core/ops/softcap/softcap.h"

namespace strake {

// Works in place, as logits are capped. A tanh and three products.
OpCheck SoftcapCheck(const OpCall& call) {
  return {.tensors = {InOut(call, "x", {0, 8})},
          .run = [cap = call.Get("cap")](const Context& ctx, const Tensors& t) {
            return Softcap(ctx, cap, t[0], t[0]);
          }};
}

}  // namespace strake
