#include "core/ops/rope/rope_check.h"

#include <cstdint>

#include "core/ops/rope/rope.h"

namespace strake {

OpCheck RopeCheck(const OpCall& call) {
  const int64_t num_heads = call.GetInt("num_heads"), seq_len = call.GetInt("seq_len");
  return {.tensors = {InOut(call, "x", {0, 3}), In(call, "table")},
          .run =
              [num_heads, seq_len, offset = call.GetInt("position_offset"),
               inverse = call.Get("inverse") != 0](const Context& ctx, const Tensors& t) {
                return inverse ? RopeBackward(ctx, t[1], num_heads, seq_len, t[0])
                               : RopeForward(ctx, t[1], num_heads, seq_len, offset, t[0]);
              },
          .prepare =
              [](const Context& ctx, const Tensors& t) {
                if (!ctx.dry_run()) RopeTable(RopeConfig(), t[1]);
                return absl::OkStatus();
              }};
}

}  // namespace strake
