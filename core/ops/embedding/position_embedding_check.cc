#include "core/ops/embedding/position_embedding_check.h"

#include <cstdint>
#include <vector>

#include "core/ops/embedding/position_embedding.h"

namespace strake {

OpCheck PositionEmbeddingCheck(const OpCall& call) {
  const int64_t period = call.GetInt("period"), offset = call.GetInt("offset");
  std::vector<OpTensor> tensors;
  if (call.Has("dy")) {
    const double rows = static_cast<double>(call.ShapeOf("dy")[0]);
    tensors = {In(call, "dy"), Grad(call, "dpositions", rows)};
  } else {
    tensors = {Weight(call, "positions"), InOut(call, "y", {0, 1}, 0, kWeightStddev)};
  }
  if (call.Has("row_positions")) {
    tensors.push_back(In(call, "row_positions"));
    tensors.back().num_tokens = call.ShapeOf(call.Has("dy") ? "dpositions" : "positions")[0];
  }
  return {.tensors = tensors,
          .run = [period, offset, backward = call.Has("dy")](const Context& ctx, const Tensors& t) {
            const Tensor row_positions = t.size() > 2 ? t[2] : Tensor();
            return backward
                       ? PositionEmbeddingBackward(ctx, t[0], period, offset, t[1], row_positions)
                       : PositionEmbeddingForward(ctx, t[0], period, offset, t[1], row_positions);
          }};
}

}  // namespace strake
