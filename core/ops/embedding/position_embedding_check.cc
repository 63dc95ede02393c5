#include "core/ops/embedding/position_embedding_check.h"

#include <cstdint>

#include "core/ops/embedding/position_embedding.h"

namespace strake {

OpCheck PositionEmbeddingCheck(const OpCall& call) {
  const int64_t period = call.GetInt("period"), offset = call.GetInt("offset");
  if (call.Has("dy")) {
    const double rows = static_cast<double>(call.ShapeOf("dy")[0]);
    return {.tensors = {In(call, "dy"), Grad(call, "dpositions", rows)},
            .run = [period, offset](const Context& ctx, const Tensors& t) {
              return PositionEmbeddingBackward(ctx, t[0], period, offset, t[1]);
            }};
  }
  return {.tensors = {Weight(call, "positions"), InOut(call, "y", {0, 1}, 0, kWeightStddev)},
          .run = [period, offset](const Context& ctx, const Tensors& t) {
            return PositionEmbeddingForward(ctx, t[0], period, offset, t[1]);
          }};
}

}  // namespace strake
