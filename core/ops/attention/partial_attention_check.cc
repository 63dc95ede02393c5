#include "core/ops/attention/partial_attention_check.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/attention_check_parts.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/documents.h"

namespace strake {
namespace {

PartialAttention PartOf(const OpCall& call) {
  return {
      .shape = GetAttentionShape(call),
      .num_keys = call.GetInt("num_keys"),
      .queries = {call.GetInt("query_row"), call.GetInt("query_position"),
                  call.GetInt("num_queries")},
      .keys = {call.GetInt("key_row"), call.GetInt("key_position"), call.GetInt("num_seen_keys")}};
}

// Adds the positions of documents of sequences of `seq_len` tokens, if there are any: 0 in rows
// that the call does not read.
std::vector<OpTensor> WithRowPositions(const OpCall& call, const PartialAttention& part,
                                       int64_t seq_len, const std::vector<int64_t>& lengths,
                                       std::vector<OpTensor> tensors) {
  if (lengths.empty()) return tensors;
  const TokenSpan& queries = part.queries;
  std::vector<int32_t> positions(part.shape.batch * part.shape.seq_len);
  int64_t begin = 0;  // of a document, among the tokens of the batch
  for (const int64_t length : lengths) {
    for (int64_t token = begin; token < begin + length; ++token) {
      const int64_t query = token % seq_len - queries.position;
      if (query < 0 || query >= queries.count) continue;
      const int64_t row = token / seq_len * part.shape.seq_len + queries.row + query;
      positions[row] = static_cast<int32_t>(token - begin);
    }
    begin += length;
  }
  tensors.push_back(Ids(call, "positions", std::move(positions)));
  return tensors;
}

}  // namespace

// Outputs are read too, because the call leaves the rows of other tokens as they are.
OpCheck PartialAttentionCheck(const OpCall& call) {
  const PartialAttention part = PartOf(call);
  const Rounding rounding = AttentionRounding(part.shape, part.keys.count);
  const int64_t seq_len =
      std::max(part.queries.position + part.queries.count, part.keys.position + part.keys.count);
  const std::vector<int64_t> lengths = DocumentLengths(call, part.shape.batch, seq_len);
  if (!call.Has("dy")) {
    const bool merge = call.Get("merge") != 0;
    return {.tensors = WithRowPositions(
                call, part, seq_len, lengths,
                {In(call, "qkv"), In(call, "kv"), InOut(call, "y", rounding),
                 InOut(call, "lse", {rounding.num_terms, rounding.num_roundings})}),
            .run = [part, merge, lengths](const Context& ctx, const Tensors& t) {
              return PartialAttentionForward(ctx, t[0], t[1], part, merge, t[2], t[3],
                                             DocumentsOf(lengths, t));
            }};
  }
  const Rounding gradient = AttentionGradientRounding(rounding);
  // Takes these keys for all that there are.
  return {.tensors = WithRowPositions(
              call, part, seq_len, lengths,
              {In(call, "dy"), In(call, "qkv"), In(call, "kv"), In(call, "y"), In(call, "lse"),
               InOut(call, "dq", gradient), InOut(call, "dkv", gradient)}),
          .run =
              [part, lengths](const Context& ctx, const Tensors& t) {
                return PartialAttentionBackward(ctx, t[0], t[1], t[2], t[3], t[4], part, t[5], t[6],
                                                DocumentsOf(lengths, t));
              },
          .prepare =
              [part, lengths](const Context& ctx, const Tensors& t) {
                return PartialAttentionForward(ctx, t[1], t[2], part, /*merge=*/false, t[3], t[4],
                                               DocumentsOf(lengths, t));
              }};
}

}  // namespace strake
