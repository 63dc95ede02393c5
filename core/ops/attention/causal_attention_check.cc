#include "core/ops/attention/causal_attention_check.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/attention_check_parts.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/documents.h"

namespace strake {
namespace {

// Adds the positions of documents, if there are any.
std::vector<OpTensor> WithPositions(const OpCall& call, const std::vector<int64_t>& lengths,
                                    std::vector<OpTensor> tensors) {
  std::vector<int32_t> positions;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) positions.push_back(static_cast<int32_t>(i));
  }
  if (!lengths.empty()) tensors.push_back(Ids(call, "positions", std::move(positions)));
  return tensors;
}

}  // namespace

OpCheck CausalAttentionCheck(const OpCall& call) {
  const AttentionShape shape = GetAttentionShape(call);
  const int64_t last = shape.seq_len - 1;
  const Rounding rounding = AttentionRounding(shape, last + 1 - shape.FirstKey(last));
  const std::vector<int64_t> lengths = DocumentLengths(call, shape.batch, shape.seq_len);
  if (!call.Has("dy")) {
    return {
        .tensors = WithPositions(call, lengths,
                                 {In(call, "qkv"), Out(call, "y", rounding),
                                  Out(call, "lse", {rounding.num_terms, rounding.num_roundings})}),
        .run = [shape, lengths](const Context& ctx, const Tensors& t) {
          return CausalAttentionForward(ctx, t[0], shape, t[1], t[2], DocumentsOf(lengths, t));
        }};
  }
  const Rounding gradient = AttentionGradientRounding(rounding);
  return {.tensors = WithPositions(call, lengths,
                                   {In(call, "dy"), In(call, "qkv"), In(call, "y"), In(call, "lse"),
                                    Out(call, "dqkv", gradient)}),
          .run =
              [shape, lengths](const Context& ctx, const Tensors& t) {
                return CausalAttentionBackward(ctx, t[0], t[1], t[2], t[3], shape, t[4],
                                               DocumentsOf(lengths, t));
              },
          .prepare =
              [shape, lengths](const Context& ctx, const Tensors& t) {
                return CausalAttentionForward(ctx, t[1], shape, t[2], t[3],
                                              DocumentsOf(lengths, t));
              }};
}

}  // namespace strake
