#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/attention/attention_forward_cuda.h"
#include "core/ops/attention/attention_scores_cuda.h"
#include "core/ops/attention/attention_tiles_cuda.h"
#include "core/ops/attention/cached_attention_cuda.h"
#include "core/ops/attention/decode_attention_cuda.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {
namespace {

constexpr int kThreads = 256;

// Copies columns [0, columns) of k and v, with rows `stride` apart, to the caches' rows from
// past.Get() on.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    AppendKernel(const T* k, const T* v, int64_t stride, int columns, int64_t count, bool aligned,
                 PastTokens past, T* k_cache, T* v_cache) {
  constexpr int kWidth = kVecWidth<T>;
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * (aligned ? kWidth : 1);
  if (at >= count) return;
  const int64_t from = at / columns * stride + at % columns, to = past.Get() * columns + at;
  if (aligned) {
    StoreVec(k_cache + to, LoadVec<kWidth>(k + from));
    StoreVec(v_cache + to, LoadVec<kWidth>(v + from));
  } else {
    k_cache[to] = k[from];
    v_cache[to] = v[from];
  }
}

// y [N, H*D] = sum_s exp(lse[s] - log(sum_s exp(lse[s]))) parts[s], from parts [S, N, H*D] and lse
// [S, H, N] of S splits of the keys, `split_keys` in each, of at most `max_keys`. One warp per
// token and head.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    CombineSplitsKernel(const float* parts, const float* lse, PastTokens past, int64_t max_keys,
                        int64_t split_keys, int num_tokens, int num_heads, int head_dim, T* y) {
  const int64_t units = int64_t{num_tokens} * num_heads;
  const int64_t unit = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarpSize;
  if (unit >= units) return;
  const int64_t keys = min(past.Get() + num_tokens, max_keys);
  const int splits = (keys + split_keys - 1) / split_keys;
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
absl::Status Append(CudaStream stream, const AttentionInputs<T>& fused,
                    const CachedAttentionForwardArgs<T>& args, const PastTokens& past) {
  const int64_t columns = args.shape.num_kv_heads * fused.head_dim;
  const int64_t count = fused.num_queries * columns;
  const bool aligned = Vectorizes<T>(fused.head_dim, {fused.q, args.k_cache, args.v_cache});
  const int64_t threads = aligned ? count / kVecWidth<T> : count;
  return Launch<AppendKernel<T>>(stream, (threads + kThreads - 1) / kThreads, kThreads, 0, fused.k,
                                 fused.v, fused.q_stride, columns, count, aligned, past,
                                 args.k_cache, args.v_cache);
}

// Calls attend(y, lse) with the place of both. With several splits that is the workspace, and a
// second launch combines them. The workspace of one split is lse alone.
template <typename T, typename AttendSplits>
absl::Status Attend(CudaStream stream, const AttentionInputs<T>& in, const PastTokens& past,
                    int64_t max_keys, int64_t splits, int64_t split_keys, T* y, float* workspace,
                    AttendSplits attend) {
  if (splits == 1) return attend(y, workspace);
  const int64_t units = int64_t{in.num_queries} * in.num_heads;
  float* const lse = workspace + splits * units * in.head_dim;
  const absl::Status launched = attend(workspace, lse);
  if (!launched.ok()) return launched;
  constexpr int kWarps = kThreads / kWarpSize;
  return Launch<CombineSplitsKernel<T>>(stream, (units + kWarps - 1) / kWarps, kThreads, 0,
                                        workspace, lse, past, max_keys, split_keys, in.num_queries,
                                        in.num_heads, in.head_dim, y);
}

}  // namespace

template <typename T>
absl::Status CachedAttentionForward(CudaStream stream, const CachedAttentionForwardArgs<T>& args) {
  if (args.shape.seq_len == 0) return absl::OkStatus();
  const PastTokens past = {args.past, args.past_on_gpu};
  AttentionInputs<T> in = FusedAttentionInputs(args.qkv, args.shape);
  const absl::Status appended = Append(stream, in, args, past);
  if (!appended.ok()) return appended;
  in.k = args.k_cache;
  in.v = args.v_cache;
  in.kv_stride = args.shape.num_kv_heads * args.shape.head_dim;
  in.aligned = Vectorizes<T>(args.shape.head_dim,
                             {args.qkv, args.k_cache, args.v_cache, args.y, args.workspace});
  if (args.shape.seq_len == 1) {
    const int64_t splits = DecodeSplits(args.shape, args.cache_rows);
    return Attend(stream, in, past, in.window, splits, kDecodeSplitKeys, args.y, args.workspace,
                  [&](auto* y, float* lse) {
                    return LaunchDecodeAttention(stream, in, past, splits, kDecodeSplitKeys, y,
                                                 lse);
                  });
  }
  const int64_t first_key = args.shape.FirstKey(args.past);
  in.k += first_key * in.kv_stride;
  in.v += first_key * in.kv_stride;
  in.past = args.past - first_key;
  const KeySplits splits(args.shape, args.past);
  return Attend(stream, in, {in.past, nullptr}, kNoWindow, splits.count, splits.keys, args.y,
                args.workspace, [&](auto* y, float* lse) {
                  return WithScores(in, [&](auto form) {
                    return LaunchAttentionForward(stream, in, form, splits.count, splits.keys, y,
                                                  lse);
                  });
                });
}

STRAKE_CACHED_ATTENTION_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
