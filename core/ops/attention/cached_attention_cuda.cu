#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/attention/attention_forward_cuda.h"
#include "core/ops/attention/attention_tiles_cuda.h"
#include "core/ops/attention/cached_attention_cuda.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;

// Copies columns [0, columns) of k and v, with rows `stride` apart, to packed rows.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    AppendKernel(const T* k, const T* v, int64_t stride, int columns, int64_t count, bool aligned,
                 T* k_to, T* v_to) {
  constexpr int kWidth = kVecWidth<T>;
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * (aligned ? kWidth : 1);
  if (at >= count) return;
  const int64_t from = at / columns * stride + at % columns;
  if (aligned) {
    StoreVec(k_to + at, LoadVec<kWidth>(k + from));
    StoreVec(v_to + at, LoadVec<kWidth>(v + from));
  } else {
    k_to[at] = k[from];
    v_to[at] = v[from];
  }
}

// y [N, H*D] = sum_s exp(lse[s] - log(sum_s exp(lse[s]))) parts[s], from parts [S, N, H*D] and lse
// [S, H, N] of S splits of the keys. One warp per token and head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    CombineSplitsKernel(const float* parts, const float* lse, int splits, int num_tokens,
                        int num_heads, int head_dim, T* y) {
  const int64_t units = int64_t{num_tokens} * num_heads;
  const int64_t unit = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarpSize;
  if (unit >= units) return;
  const int64_t lse_at = unit % num_heads * num_tokens + unit / num_heads;
  float shift = -INFINITY, total = 0;
  for (int s = 0; s < splits; ++s) shift = fmaxf(shift, lse[s * units + lse_at]);
  for (int s = 0; s < splits; ++s) total += expf(lse[s * units + lse_at] - shift);
  for (int d = threadIdx.x % kWarpSize; d < head_dim; d += kWarpSize) {
    float sum = 0;
    for (int s = 0; s < splits; ++s) {
      sum += expf(lse[s * units + lse_at] - shift) * parts[(s * units + unit) * head_dim + d];
    }
    y[unit * head_dim + d] = FromFloat<T>(sum / total);
  }
}

template <typename T>
absl::Status Append(CudaStream stream, const AttentionInputs<T>& fused, int64_t kv_heads,
                    int64_t past, T* k_cache, T* v_cache) {
  const int64_t columns = kv_heads * fused.head_dim, count = fused.num_queries * columns;
  T* const k_to = k_cache + past * columns;
  T* const v_to = v_cache + past * columns;
  const bool aligned = Vectorizes<T>(fused.head_dim, {fused.q, k_to, v_to});
  const int64_t threads = aligned ? count / kVecWidth<T> : count;
  return Launch<AppendKernel<T>>(stream, (threads + kThreads - 1) / kThreads, kThreads, 0, fused.k,
                                 fused.v, fused.q_stride, columns, count, aligned, k_to, v_to);
}

// Computes y over all splits, in one launch or two. The workspace of one split is lse alone.
template <typename T>
absl::Status Attend(CudaStream stream, const AttentionInputs<T>& in, const KeySplits& splits, T* y,
                    float* workspace) {
  if (splits.count == 1) return LaunchAttentionForward(stream, in, 1, splits.keys, y, workspace);
  const int64_t units = int64_t{in.num_queries} * in.num_heads;
  float* const lse = workspace + splits.count * units * in.head_dim;
  const absl::Status launched =
      LaunchAttentionForward(stream, in, splits.count, splits.keys, workspace, lse);
  if (!launched.ok()) return launched;
  constexpr int kWarps = kThreads / kWarpSize;
  return Launch<CombineSplitsKernel<T>>(stream, (units + kWarps - 1) / kWarps, kThreads, 0,
                                        workspace, lse, splits.count, in.num_queries, in.num_heads,
                                        in.head_dim, y);
}

}  // namespace

template <typename T>
absl::Status CachedAttentionForward(CudaStream stream, const CachedAttentionForwardArgs<T>& args) {
  if (args.shape.seq_len == 0) return absl::OkStatus();
  AttentionInputs<T> in = FusedAttentionInputs(args.qkv, args.shape);
  const absl::Status appended =
      Append(stream, in, args.shape.num_kv_heads, args.past, args.k_cache, args.v_cache);
  if (!appended.ok()) return appended;
  in.k = args.k_cache;
  in.v = args.v_cache;
  in.kv_stride = args.shape.num_kv_heads * args.shape.head_dim;
  in.past = args.past;
  in.aligned = Vectorizes<T>(args.shape.head_dim,
                             {args.qkv, args.k_cache, args.v_cache, args.y, args.workspace});
  return Attend(stream, in, KeySplits(args.shape, args.past), args.y, args.workspace);
}

STRAKE_CACHED_ATTENTION_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
