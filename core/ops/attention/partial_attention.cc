#include "core/ops/attention/partial_attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "core/memory/activation_arena.h"
#include "core/ops/attention/attention_call.h"
#include "core/ops/attention/attention_segment.h"
#include "core/ops/attention/causal_attention_cpu.h"
#include "core/ops/attention/partial_attention_cuda.h"
#include "core/ops/attention/partial_attention_reference.h"
#include "core/ops/dispatch.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr char kOp[] = "partial_attention";

bool IsWithin(const TokenSpan& span, int64_t rows) {
  return span.row >= 0 && span.position >= 0 && span.count >= 0 && span.row + span.count <= rows;
}

void CheckShapes(const Tensor& qkv, const Tensor& kv, const PartialAttention& part, const Tensor& y,
                 DType y_dtype, const Tensor& lse, const Documents& documents) {
  const AttentionShape& s = part.shape;
  const Tensor& positions = documents.positions;
  CHECK(s.batch >= 0 && s.seq_len >= 0 && part.num_keys >= 0 && s.num_heads > 0 &&
        s.num_kv_heads > 0 && s.head_dim > 0 && s.num_heads % s.num_kv_heads == 0 &&
        s.HasValidScores() && IsWithin(part.queries, s.seq_len) &&
        IsWithin(part.keys, part.num_keys) &&
        qkv.shape() ==
            Shape({s.batch * s.seq_len, (s.num_heads + 2 * s.num_kv_heads) * s.head_dim}) &&
        kv.shape() == Shape({s.batch * part.num_keys, 2 * s.num_kv_heads * s.head_dim}) &&
        y.shape() == Shape({s.batch * s.seq_len, s.num_heads * s.head_dim}) &&
        lse.shape() == Shape({s.batch, s.num_heads, s.seq_len}) && kv.dtype() == qkv.dtype() &&
        y.dtype() == y_dtype && lse.dtype() == AccumulationDType(qkv.dtype()) &&
        (positions.defined()
             ? positions.shape() == Shape({s.batch * s.seq_len}) && positions.dtype() == DType::kI32
             : documents.lengths.empty()))
      << "[" << kOp << "] qkv " << qkv.ToString() << ", kv " << kv.ToString() << ", y "
      << y.ToString() << ", lse " << lse.ToString() << ", positions " << positions.ToString()
      << ", documents " << documents.lengths.size() << ", batch " << s.batch << ", "
      << part.queries.count << " queries from row " << part.queries.row << " of " << s.seq_len
      << ", " << part.keys.count << " keys from row " << part.keys.row << " of " << part.num_keys
      << ", num_heads " << s.num_heads << ", num_kv_heads " << s.num_kv_heads << ", head_dim "
      << s.head_dim << ", window " << s.window << ", score_scale " << s.score_scale
      << ", score_softcap " << s.score_softcap;
}

// The tokens of a span at positions [begin, end).
TokenSpan Within(const TokenSpan& span, int64_t begin, int64_t end) {
  const int64_t skipped = std::clamp<int64_t>(begin - span.position, 0, span.count);
  const int64_t stop = std::clamp<int64_t>(end - span.position, skipped, span.count);
  return {span.row + skipped, span.position + skipped, stop - skipped};
}

// The queries that see any of the keys, and the keys that any of them sees, windows aside: without
// queries if there are none. Rows are those of a sequence.
AttentionSegment Seeing(const AttentionShape& shape, const TokenSpan& queries,
                        const TokenSpan& keys) {
  if (keys.count == 0) return {};
  int64_t end = queries.position + queries.count;
  if (shape.window != 0 && shape.window < end) {
    end = std::min(end, keys.position + keys.count + shape.window - 1);
  }
  const TokenSpan seeing = Within(queries, keys.position, end);
  const TokenSpan seen = Within(keys, keys.position, seeing.position + seeing.count);
  return {seeing.row, seeing.count, seen.row, seen.count, seeing.position - keys.position};
}

// The number of queries from row `query` to row `end` of a sequence that are of the first one's
// document.
int64_t CountOfDocument(const int32_t* positions, int64_t query, int64_t end) {
  int64_t count = 1;
  while (query + count < end && positions[query + count] == positions[query] + count) ++count;
  return count;
}

// The segments of all sequences, with rows of the batch's matrices.
std::vector<AttentionSegment> Segments(const PartialAttention& part, const Documents& documents) {
  const AttentionShape& shape = part.shape;
  const TokenSpan& queries = part.queries;
  const int64_t end = queries.row + queries.count;
  std::vector<AttentionSegment> segments;
  for (int64_t b = 0; b < shape.batch; ++b) {
    const int32_t* const positions =
        documents.defined() ? documents.positions.data<int32_t>() + b * shape.seq_len : nullptr;
    for (int64_t query = queries.row, count = 0; query < end; query += count) {
      count = positions == nullptr ? end - query : CountOfDocument(positions, query, end);
      const int64_t position = queries.position + query - queries.row;
      const int64_t first = positions == nullptr ? 0 : position - positions[query];
      AttentionSegment segment =
          Seeing(shape, {query, position, count},
                 Within(part.keys, first, std::numeric_limits<int64_t>::max()));
      if (segment.num_queries == 0) continue;
      segment.query += b * shape.seq_len;
      segment.key += b * part.num_keys;
      segments.push_back(segment);
    }
  }
  return segments;
}

// Pairs of a query and a key that it sees, in one head of all sequences. Documents without lengths
// are taken for one.
double NumPairs(const PartialAttention& part, const Documents& documents) {
  const auto pairs = [&](const TokenSpan& queries, const TokenSpan& keys) {
    const AttentionSegment segment = Seeing(part.shape, queries, keys);
    return segment.num_queries == 0 ? 0 : segment.NumPairs(part.shape);
  };
  const absl::Span<const int64_t> lengths = documents.lengths;
  if (lengths.empty()) return part.shape.batch * pairs(part.queries, part.keys);
  int64_t tokens = 0;
  for (const int64_t length : lengths) tokens += length;
  const int64_t seq_len = tokens / std::max<int64_t>(1, part.shape.batch);
  double sum = 0;
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    const int64_t end = begin + length;
    sum += pairs(Within(part.queries, begin, end), Within(part.keys, begin, end));
    begin = end < seq_len ? end : 0;
  }
  return sum;
}

// Bytes of the rows of a call in a tensor of `columns` columns that it reads or writes.
double Bytes(int64_t batch, const TokenSpan& span, int64_t columns, DType dtype) {
  return static_cast<double>(batch * span.count * columns * DTypeSize(dtype));
}

// What both passes read, and the shape. Counts only the products: two in the forward pass, five in
// the backward pass.
void Describe(const Tensor& qkv, const Tensor& kv, const PartialAttention& part,
              const Documents& documents, double products, OpCall* call) {
  const AttentionShape& s = part.shape;
  call->In("qkv", qkv, Bytes(s.batch, part.queries, s.num_heads * s.head_dim, qkv.dtype()));
  call->In("kv", kv, Bytes(s.batch, part.keys, kv.dim(1), kv.dtype()));
  SetAttentionShape(s, call);
  call->Set("query_row", part.queries.row).Set("query_position", part.queries.position);
  call->Set("num_queries", part.queries.count);
  call->Set("key_row", part.keys.row).Set("key_position", part.keys.position);
  call->Set("num_seen_keys", part.keys.count).Set("num_keys", part.num_keys);
  if (documents.defined()) {
    call->In("positions", documents.positions,
             Bytes(s.batch, part.queries, 1, documents.positions.dtype()));
    call->Set("num_documents", documents.lengths.size());
  }
  call->Flops(products * 2 * s.num_heads * s.head_dim * NumPairs(part, documents));
}

// Bytes of y's rows of the queries, or dy's or dq's, and of lse's.
double OutputBytes(const PartialAttention& part, const Tensor& y) {
  return Bytes(part.shape.batch, part.queries, y.dim(1), y.dtype());
}
double LseBytes(const PartialAttention& part, const Tensor& lse) {
  return Bytes(part.shape.batch, part.queries, part.shape.num_heads, lse.dtype());
}

const int32_t* PositionsOrNull(const Documents& documents) {
  return DataOrNull<int32_t>(documents.positions);
}

// Returns whether the CPU's kernels run, in tiles.
bool Tiled(const Context& ctx, const Tensor& x) {
  return ctx.arena().device() == Device::kCpu && HasCpuKernels(kOp, ctx, x.dtype());
}

template <typename T>
cpu::AttentionInputs<T> Inputs(const Tensor& qkv, const Tensor& kv, const AttentionShape& shape) {
  const T* const keys = kv.data<T>();
  return {qkv.data<T>(), qkv.dim(1), keys, keys + shape.num_kv_heads * shape.head_dim, kv.dim(1)};
}

// Sets y and lse of the queries [begin, end), rows of the batch's, to those without keys.
void Clear(const AttentionShape& shape, int64_t begin, int64_t end, float* y, float* lse) {
  const int64_t columns = shape.num_heads * shape.head_dim, R = shape.seq_len;
  std::fill(y + begin * columns, y + end * columns, 0);
  for (int64_t query = begin; query < end; ++query) {
    for (int64_t h = 0; h < shape.num_heads; ++h) {
      lse[(query / R * shape.num_heads + h) * R + query % R] = -INFINITY;
    }
  }
}

// Clears the queries that are in no segment.
void ClearOthers(const PartialAttention& part, absl::Span<const AttentionSegment> segments,
                 float* y, float* lse) {
  const AttentionShape& shape = part.shape;
  auto segment = segments.begin();
  for (int64_t b = 0; b < shape.batch; ++b) {
    int64_t query = b * shape.seq_len + part.queries.row;
    const int64_t end = query + part.queries.count;
    for (; segment != segments.end() && segment->query < end; ++segment) {
      Clear(shape, query, segment->query, y, lse);
      query = segment->query + segment->num_queries;
    }
    Clear(shape, query, end, y, lse);
  }
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
  CheckShapes(qkv, kv, part, y, AccumulationDType(qkv.dtype()), lse, documents);
  const bool on_cuda = OnCuda(kOp, ctx, qkv, kv, y, lse, documents.positions);
  const AttentionShape& shape = part.shape;
  const ActivationScope scope(ctx.arena());
  Tensor scratch;
  if (Tiled(ctx, qkv)) {
    scratch = ctx.arena().Allocate(
        DType::kF32, {ctx.team().num_threads(),
                      cpu::CausalAttentionForwardScratch(part.keys.count, shape.head_dim)});
  }
  const OpScope op(ctx, kOp, [&](OpCall& call) {
    Describe(qkv, kv, part, documents, /*products=*/2, &call);
    if (merge) {
      call.InOut("y", y, OutputBytes(part, y)).InOut("lse", lse, LseBytes(part, lse));
    } else {
      call.Out("y", y, OutputBytes(part, y)).Out("lse", lse, LseBytes(part, lse));
    }
    call.Set("merge", merge);
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda(kOp, qkv.dtype(), [&]<typename T>() {
      return cuda::PartialAttentionForward<T>(ctx.cuda_stream(),
                                              {.qkv = qkv.data<T>(),
                                               .kv = kv.data<T>(),
                                               .part = part,
                                               .merge = merge,
                                               .y = y.data<float>(),
                                               .lse = lse.data<float>(),
                                               .positions = PositionsOrNull(documents)});
    });
  }
  const bool done = RunCpuKernels(kOp, ctx, qkv.dtype(), [&]<typename T>() {
    const std::vector<AttentionSegment> segments = Segments(part, documents);
    if (!merge) ClearOthers(part, segments, y.data<float>(), lse.data<float>());
    cpu::SegmentedAttentionForward<T, float>(
        ctx.team(), Inputs<T>(qkv, kv, shape), shape, segments, part.keys.count,
        scratch.data<float>(), {y.data<float>(), lse.data<float>(), shape.seq_len, merge});
  });
  if (done) return absl::OkStatus();
  DispatchReference(kOp, qkv.dtype(), [&]<typename Scalar>() {
    ForEachHead<Scalar>(ctx, qkv, kv, part, documents, [&](int64_t b, int64_t h, const auto& head) {
      const int64_t R = shape.seq_len, H = shape.num_heads, D = shape.head_dim;
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
  CheckShapes(qkv, kv, part, y, qkv.dtype(), lse, documents);
  CHECK(dq.shape() == y.shape() && dkv.shape() == kv.shape() && dy.shape() == y.shape() &&
        dy.dtype() == y.dtype() && dq.dtype() == lse.dtype() && dkv.dtype() == lse.dtype())
      << "[" << kOp << "] dq " << dq.ToString() << ", dkv " << dkv.ToString() << ", dy "
      << dy.ToString() << ", y " << y.ToString() << ", kv " << kv.ToString();
  const bool on_cuda = OnCuda(kOp, ctx, dy, qkv, kv, y, lse, dq, dkv, documents.positions);
  const AttentionShape& shape = part.shape;
  const int64_t R = shape.seq_len, H = shape.num_heads, KV = shape.num_kv_heads;
  const int64_t D = shape.head_dim;
  const ActivationScope scope(ctx.arena());
  Tensor scratch;
  if (Tiled(ctx, qkv)) {
    scratch = ctx.arena().Allocate(
        DType::kF32,
        {ctx.team().num_threads(), cpu::CausalAttentionBackwardScratch(part.keys.count, D)});
  } else if (on_cuda) {
    scratch =
        ctx.arena().Allocate(DType::kF32, {cuda::PartialAttentionBackwardWorkspaceSize(shape)});
  }
  const OpScope op(ctx, kOp, [&](OpCall& call) {
    call.In("dy", dy, OutputBytes(part, dy));
    Describe(qkv, kv, part, documents, /*products=*/5, &call);
    call.In("y", y, OutputBytes(part, y)).In("lse", lse, LseBytes(part, lse));
    call.InOut("dq", dq, OutputBytes(part, dq));
    call.InOut("dkv", dkv, Bytes(shape.batch, part.keys, dkv.dim(1), dkv.dtype()));
  });
  if (ctx.dry_run()) return absl::OkStatus();
  if (on_cuda) {
    return DispatchCuda(kOp, qkv.dtype(), [&]<typename T>() {
      return cuda::PartialAttentionBackward<T>(ctx.cuda_stream(),
                                               {.dy = dy.data<T>(),
                                                .qkv = qkv.data<T>(),
                                                .kv = kv.data<T>(),
                                                .y = y.data<T>(),
                                                .lse = lse.data<float>(),
                                                .part = part,
                                                .dq = dq.data<float>(),
                                                .dkv = dkv.data<float>(),
                                                .workspace = scratch.data<float>(),
                                                .positions = PositionsOrNull(documents)});
    });
  }
  const bool done = RunCpuKernels(kOp, ctx, qkv.dtype(), [&]<typename T>() {
    float* const dk = dkv.data<float>();
    const cpu::AttentionGradients<T, float> gradients = {.shape = shape,
                                                         .keys = {},
                                                         .inputs = Inputs<T>(qkv, kv, shape),
                                                         .dy = dy.data<T>(),
                                                         .y = y.data<T>(),
                                                         .lse = lse.data<float>(),
                                                         .lse_stride = R,
                                                         .dq = dq.data<float>(),
                                                         .dq_stride = dq.dim(1),
                                                         .dk = dk,
                                                         .dv = dk + KV * D,
                                                         .dkv_stride = dkv.dim(1),
                                                         .accumulate = true};
    cpu::SegmentedAttentionBackward<T, float>(ctx.team(), gradients, Segments(part, documents),
                                              part.keys.count, scratch.data<float>());
  });
  if (done) return absl::OkStatus();
  DispatchReference(kOp, qkv.dtype(), [&]<typename Scalar>() {
    ForEachHead<Scalar>(ctx, qkv, kv, part, documents, [&](int64_t b, int64_t h, const auto& head) {
      const int64_t out = (b * R * H + h) * D;
      Scalar* const dk = dkv.data<Scalar>() + b * part.num_keys * kv.dim(1) + h / (H / KV) * D;
      reference::PartialAttentionBackward(head, dy.data<Scalar>() + out, y.data<Scalar>() + out,
                                          lse.data<Scalar>() + (b * H + h) * R,
                                          dq.data<Scalar>() + out, dk, dk + KV * D);
    });
  });
  return absl::OkStatus();
}

}  // namespace strake
