#include <algorithm>

#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/attention/attention_backward_cuda.h"
#include "core/ops/attention/attention_forward_cuda.h"
#include "core/ops/attention/attention_scores_cuda.h"
#include "core/ops/attention/partial_attention_cuda.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

template <typename T>
AttentionInputs<T> PartialInputs(const T* qkv, const T* kv, const PartialAttention& part) {
  AttentionInputs<T> in = FusedAttentionInputs(qkv, part.shape);
  in.k = kv;
  in.v = kv + part.shape.num_kv_heads * part.shape.head_dim;
  in.kv_stride = 2 * part.shape.num_kv_heads * part.shape.head_dim;
  in.num_queries = static_cast<int>(part.queries.count);
  in.past = static_cast<int>(part.queries.position - part.keys.position);
  // A window that is subtracted from a negative position must not overflow.
  in.window = std::min(in.window, kNoWindow / 2);
  return in;
}

PartialScores FormOf(const PartialAttention& part, const int32_t* positions) {
  PartialScores form = {};
  form.positions = positions;
  form.num_keys = static_cast<int>(part.keys.count);
  form.query_rows = static_cast<int>(part.shape.seq_len);
  form.query_row = static_cast<int>(part.queries.row);
  form.key_rows = static_cast<int>(part.num_keys);
  form.key_row = static_cast<int>(part.keys.row);
  return form;
}

bool HasQueries(const PartialAttention& part) {
  return part.shape.batch > 0 && part.queries.count > 0;
}

}  // namespace

template <typename T>
absl::Status PartialAttentionForward(CudaStream stream,
                                     const PartialAttentionForwardArgs<T>& args) {
  if (!HasQueries(args.part)) return absl::OkStatus();
  AttentionInputs<T> in = PartialInputs(args.qkv, args.kv, args.part);
  in.aligned =
      Vectorizes<T>(in.head_dim, {args.qkv, args.kv}) && Vectorizes<float>(in.head_dim, {args.y});
  PartialScores form = FormOf(args.part, args.positions);
  form.merge = args.merge;
  return LaunchAttentionForward(stream, in, form, 1, form.num_keys, args.y, args.lse);
}

template <typename T>
absl::Status PartialAttentionBackward(CudaStream stream,
                                      const PartialAttentionBackwardArgs<T>& args) {
  if (!HasQueries(args.part) || args.part.keys.count == 0) return absl::OkStatus();
  const absl::Status launched =
      LaunchMean<T>(stream, args.dy, args.y, args.part.shape, args.workspace, nullptr);
  if (!launched.ok()) return launched;
  AttentionInputs<T> in = PartialInputs(args.qkv, args.kv, args.part);
  in.aligned = Vectorizes<T>(in.head_dim, {args.qkv, args.kv, args.dy});
  PartialScores form = FormOf(args.part, args.positions);
  form.dq = args.dq;
  form.dk = args.dkv;
  form.dv = args.dkv + args.part.shape.num_kv_heads * args.part.shape.head_dim;
  form.dkv_stride = in.kv_stride;
  return LaunchAttentionBackward<T>(
      stream, {.in = in, .dy = args.dy, .lse = args.lse, .mean = args.workspace, .dq = nullptr},
      form, form.num_keys);
}

STRAKE_PARTIAL_ATTENTION_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
