#include "core/ops/attention/partial_attention.h"

#include <algorithm>
#include <cstdint>

#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/partial_attention_reference.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

bool IsWithin(const TokenSpan& span, int64_t rows) {
  return span.row >= 0 && span.position >= 0 && span.count >= 0 && span.row + span.count <= rows;
}

void CheckShapes(const char* op, const Tensor& qkv, const Tensor& kv, const PartialAttention& part,
                 const Tensor& y, const Tensor& lse, const Documents& documents) {
  const AttentionShape& s = part.shape;
  CHECK(s.batch >= 0 && s.seq_len >= 0 && part.num_keys >= 0 && s.num_heads > 0 &&
        s.num_kv_heads > 0 && s.head_dim > 0 && s.num_heads % s.num_kv_heads == 0 &&
        s.HasValidScores() && IsWithin(part.queries, s.seq_len) &&
        IsWithin(part.keys, part.num_keys) &&
        qkv.shape() ==
            Shape({s.batch * s.seq_len, (s.num_heads + 2 * s.num_kv_heads) * s.head_dim}) &&
        kv.shape() == Shape({s.batch * part.num_keys, 2 * s.num_kv_heads * s.head_dim}) &&
        y.shape() == Shape({s.batch * s.seq_len, s.num_heads * s.head_dim}) &&
        lse.shape() == Shape({s.batch, s.num_heads, s.seq_len}) && kv.dtype() == qkv.dtype() &&
        lse.dtype() == AccumulationDType(qkv.dtype()) &&
        (!documents.defined() || documents.positions.shape() == Shape({s.batch * s.seq_len})))
      << "[" << op << "] qkv " << qkv.ToString() << ", kv " << kv.ToString() << ", y "
      << y.ToString() << ", lse " << lse.ToString() << ", positions "
      << documents.positions.ToString() << ", batch " << s.batch << ", " << part.queries.count
      << " queries from row " << part.queries.row << " of " << s.seq_len << ", " << part.keys.count
      << " keys from row " << part.keys.row << " of " << part.num_keys << ", num_heads "
      << s.num_heads << ", num_kv_heads " << s.num_kv_heads << ", head_dim " << s.head_dim
      << ", window " << s.window;
}

// Calls body(sequence, query head, the head) for each head of queries of a key/value head in turn.
template <typename Scalar, typename Body>
void ForEachHead(const Context& ctx, const Tensor& qkv, const Tensor& kv,
                 const PartialAttention& part, const Documents& documents, const Body& body) {
  const AttentionShape& s = part.shape;
  const int64_t H = s.num_heads, KV = s.num_kv_heads, D = s.head_dim, R = s.seq_len;
  ctx.team().ParallelFor(s.batch * KV, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin * (H / KV); unit < end * (H / KV); ++unit) {
      const int64_t b = unit / H, h = unit % H, kv_head = h / (H / KV);
      const Scalar* const keys = kv.data<Scalar>() + b * part.num_keys * kv.dim(1) + kv_head * D;
      body(b, h,
           reference::PartialAttentionHead<Scalar>{
               .part = part,
               .q = qkv.data<Scalar>() + b * R * qkv.dim(1) + h * D,
               .q_stride = qkv.dim(1),
               .k = keys,
               .v = keys + KV * D,
               .kv_stride = kv.dim(1),
               .y_stride = H * D,
               .positions =
                   documents.defined() ? documents.positions.data<int32_t>() + b * R : nullptr});
    }
  });
}

}  // namespace

bool SeesAny(const AttentionShape& shape, const TokenSpan& queries, const TokenSpan& keys) {
  const int64_t last_key = keys.position + keys.count - 1;
  return queries.count > 0 && keys.count > 0 && keys.position < queries.position + queries.count &&
         last_key >= shape.FirstKey(queries.position);
}

absl::Status PartialAttentionForward(const Context& ctx, const Tensor& qkv, const Tensor& kv,
                                     const PartialAttention& part, bool merge, Tensor y, Tensor lse,
                                     const Documents& documents) {
  CheckShapes("partial_attention", qkv, kv, part, y, lse, documents);
  const OpScope op(ctx, "partial_attention", [&](OpCall& call) {
    call.In("qkv", qkv).In("kv", kv).InOut("y", y).InOut("lse", lse);
    SetAttentionShape(part.shape, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  DispatchReference("partial_attention", qkv.dtype(), [&]<typename Scalar>() {
    ForEachHead<Scalar>(ctx, qkv, kv, part, documents, [&](int64_t b, int64_t h, const auto& head) {
      const int64_t R = part.shape.seq_len, H = part.shape.num_heads, D = part.shape.head_dim;
      reference::PartialAttentionForward(head, merge, y.data<Scalar>() + (b * R * H + h) * D,
                                         lse.data<Scalar>() + (b * H + h) * R);
    });
  });
  return absl::OkStatus();
}

absl::Status PartialAttentionBackward(const Context& ctx, const Tensor& dy, const Tensor& qkv,
                                      const Tensor& kv, const Tensor& y, const Tensor& lse,
                                      const PartialAttention& part, Tensor dq, Tensor dkv,
                                      const Documents& documents) {
  CheckShapes("partial_attention", qkv, kv, part, y, lse, documents);
  CHECK(dq.shape() == y.shape() && dkv.shape() == kv.shape() && dy.shape() == y.shape() &&
        dq.dtype() == lse.dtype() && dkv.dtype() == lse.dtype())
      << "[partial_attention] dq " << dq.ToString() << ", dkv " << dkv.ToString() << ", dy "
      << dy.ToString();
  const OpScope op(ctx, "partial_attention", [&](OpCall& call) {
    call.In("dy", dy).In("qkv", qkv).In("kv", kv).In("y", y).In("lse", lse);
    call.InOut("dq", dq).InOut("dkv", dkv);
    SetAttentionShape(part.shape, &call);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  DispatchReference("partial_attention", qkv.dtype(), [&]<typename Scalar>() {
    ForEachHead<Scalar>(ctx, qkv, kv, part, documents, [&](int64_t b, int64_t h, const auto& head) {
      const AttentionShape& s = part.shape;
      const int64_t R = s.seq_len, H = s.num_heads, D = s.head_dim;
      const int64_t out = (b * R * H + h) * D;
      Scalar* const dk =
          dkv.data<Scalar>() + b * part.num_keys * kv.dim(1) + h / (H / s.num_kv_heads) * D;
      reference::PartialAttentionBackward(head, dy.data<Scalar>() + out, y.data<Scalar>() + out,
                                          lse.data<Scalar>() + (b * H + h) * R,
                                          dq.data<Scalar>() + out, dk, dk + s.num_kv_heads * D);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
