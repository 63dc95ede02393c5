#include "core/ops/rope/rope_check.h"

#include <cstdint>
#include <vector>

#include "core/ops/rope/rope.h"

namespace strake {

OpCheck RopeCheck(const OpCall& call) {
  const RopeHeads heads = {.num_heads = call.GetInt("num_heads"),
                           .head_dim = call.GetInt("head_dim"),
                           .interleaved = call.Get("interleaved") != 0};
  const int64_t seq_len = call.GetInt("seq_len");
  std::vector<OpTensor> tensors = {InOut(call, "x", {0, 3}), In(call, "table")};
  if (call.Has("positions")) {
    tensors.push_back(In(call, "positions"));
    tensors.back().num_tokens = call.ShapeOf("table")[0];
  }
  return {.tensors = tensors,
          .run =
              [heads, seq_len, offset = call.GetInt("position_offset"),
               transposed = call.Get("transposed") != 0](const Context& ctx, const Tensors& t) {
                const Tensor positions = t.size() > 2 ? t[2] : Tensor();
                return transposed ? RopeBackward(ctx, t[1], heads, seq_len, t[0], positions)
                                  : RopeForward(ctx, t[1], heads, seq_len, offset, t[0], positions);
              },
          .prepare =
              [](const Context& ctx, const Tensors& t) {
                if (!ctx.dry_run()) RopeTable(RopeConfig(), t[1]);
                return absl::OkStatus();
              }};
}

}  // namespace strake
