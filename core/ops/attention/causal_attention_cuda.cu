#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/attention/attention_backward_cuda.h"
#include "core/ops/attention/attention_forward_cuda.h"
#include "core/ops/attention/attention_scores_cuda.h"
#include "core/ops/attention/causal_attention_cuda.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

constexpr int kRangeThreads = 1024;

struct RangeWriter {
  const DocumentRangesArgs& args;

  __device__ bool Begins(int token) const {
    // Without a division of 64 bits for each token.
    return args.positions[token] == 0 || token % static_cast<int>(args.shape.seq_len) == 0;
  }
  // The offsets of entry `i` of a group are those of a token, or of the end of the batch.
  __device__ void SetOffsets(int group, int i, int token) const {
    const AttentionShape& s = args.shape;
    const int64_t at = int64_t{group} * args.offset_stride + i;
    args.fused[at] = token * FusedRow();
    args.output[at] = token * s.num_heads * s.head_dim;
    args.lse[at] = token / s.seq_len * s.num_heads * s.seq_len + token % s.seq_len;
  }
  __device__ int64_t FusedRow() const {
    return (args.shape.num_heads + 2 * args.shape.num_kv_heads) * args.shape.head_dim;
  }
  __device__ void SetBegin(int document, int token) const {
    SetOffsets(document / args.group_size, document % args.group_size, token);
  }
  __device__ int BeginOf(int document) const {
    const int group = document / args.group_size, i = document % args.group_size;
    return args.fused[int64_t{group} * args.offset_stride + i] / FusedRow();
  }
};

// One block: each thread counts the documents that begin within its part of the tokens, and then
// numbers them.
__global__ void __launch_bounds__(kRangeThreads) DocumentRangesKernel(DocumentRangesArgs args) {
  __shared__ Shared<int, kRangeThreads> ends;  // documents up to the end of each thread's tokens
  const RangeWriter ranges = {args};
  const int thread = threadIdx.x, tokens = args.shape.batch * args.shape.seq_len;
  const int part = (tokens + kRangeThreads - 1) / kRangeThreads;
  const int begin = min(thread * part, tokens), end = min(begin + part, tokens);
  int count = 0;
  for (int token = begin; token < end; ++token) count += ranges.Begins(token);
  ends[thread] = count;
  __syncthreads();
  for (int distance = 1; distance < kRangeThreads; distance *= 2) {
    const int before = thread >= distance ? ends[thread - distance] : 0;
    __syncthreads();
    ends[thread] = ends[thread] + before;
    __syncthreads();
  }

  const int planned = args.num_groups * args.group_size, total = ends[kRangeThreads - 1];
  const bool fits = total <= planned;
  if (thread == 0) *args.overflow = !fits;
  int next = ends[thread] - count;
  for (int token = begin; fits && token < end; ++token) {
    if (ranges.Begins(token)) ranges.SetBegin(next++, token);
  }
  for (int d = (fits ? total : 0) + thread; d < planned; d += kRangeThreads) {
    ranges.SetBegin(d, tokens);
  }
  __syncthreads();
  for (int d = thread; d < planned; d += kRangeThreads) {
    const int stop = d + 1 < planned ? ranges.BeginOf(d + 1) : tokens;
    const int group = d / args.group_size, i = d % args.group_size;
    args.lengths[int64_t{group} * args.length_stride + i] = stop - ranges.BeginOf(d);
    if (i == args.group_size - 1) ranges.SetOffsets(group, args.group_size, stop);
  }
}

// Calls launch(form) with the first form that serves.
template <typename T, typename F>
absl::Status WithDocuments(const AttentionInputs<T>& in, const int32_t* positions,
                           const int32_t* only_if, F launch) {
  return positions != nullptr ? launch(DocumentScores{{}, positions, only_if})
                              : WithScores(in, launch);
}

template <typename T>
absl::Status LaunchGradients(CudaStream stream, const BackwardInputs<T>& inputs,
                             const int32_t* positions, const int32_t* only_if) {
  return WithDocuments(inputs.in, positions, only_if, [&](auto form) {
    return LaunchAttentionBackward(stream, inputs, form, inputs.in.num_queries);
  });
}

}  // namespace

template <typename T>
absl::Status CausalAttentionForward(CudaStream stream, const CausalAttentionForwardArgs<T>& args) {
  if (args.shape.batch == 0 || args.shape.seq_len == 0) return absl::OkStatus();
  AttentionInputs<T> in = FusedAttentionInputs(args.qkv, args.shape);
  in.aligned = Vectorizes<T>(args.shape.head_dim, {args.qkv, args.y});
  return WithDocuments(in, args.positions, args.only_if, [&](auto form) {
    return LaunchAttentionForward(stream, in, form, 1, in.num_queries, args.y, args.lse);
  });
}

template <typename T>
absl::Status CausalAttentionBackward(CudaStream stream,
                                     const CausalAttentionBackwardArgs<T>& args) {
  if (args.shape.batch == 0 || args.shape.seq_len == 0) return absl::OkStatus();
  const absl::Status launched =
      LaunchMean(stream, args.dy, args.y, args.shape, args.workspace, args.only_if);
  if (!launched.ok()) return launched;
  AttentionInputs<T> in = FusedAttentionInputs(args.qkv, args.shape);
  in.aligned = Vectorizes<T>(args.shape.head_dim, {args.qkv, args.dy, args.dqkv});
  return LaunchGradients<T>(
      stream, {.in = in, .dy = args.dy, .lse = args.lse, .mean = args.workspace, .dq = args.dqkv},
      args.positions, args.only_if);
}

absl::Status DocumentRanges(CudaStream stream, const DocumentRangesArgs& args) {
  if (args.shape.batch == 0 || args.shape.seq_len == 0) return absl::OkStatus();
  return Launch<DocumentRangesKernel>(stream, 1, kRangeThreads, 0, args);
}

STRAKE_CAUSAL_ATTENTION_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
