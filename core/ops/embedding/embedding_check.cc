#include "core/ops/embedding/embedding_check.h"

#include "core/ops/embedding/embedding.h"
#include "core/ops/vocab_slice.h"

namespace strake {

OpCheck EmbeddingCheck(const OpCall& call) {
  const VocabSlice slice = {.vocab_size = call.GetInt("vocab_size"), .begin = call.GetInt("begin")};
  if (call.Has("dy")) {
    // All tokens may be the same one.
    const double num_tokens = static_cast<double>(call.ShapeOf("tokens")[0]);
    return {.tensors = {In(call, "dy"), Grad(call, "dtable", num_tokens), Tokens(call, "tokens")},
            .run = [slice](const Context& ctx, const Tensors& t) {
              return EmbeddingBackward(ctx, t[0], t[2], slice, t[1]);
            }};
  }
  return {.tensors = {Weight(call, "table"), Out(call, "y", kExact), Tokens(call, "tokens")},
          .run = [slice](const Context& ctx, const Tensors& t) {
            return EmbeddingForward(ctx, t[2], slice, t[0], t[1]);
          }};
}

}  // namespace strake
