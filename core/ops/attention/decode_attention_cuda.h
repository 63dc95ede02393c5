// The kernel of cached_attention for one new token, over splits of the keys.
//
// Memory traffic: each key and value once per kRows query heads of its group, in 16-byte vectors
// from neighbouring lanes. Flash decoding (Dao et al., "Flash-Decoding for long-context inference",
// 2023) with the query heads of a group as the rows of a tile (Ainslie et al., "GQA", 2023, 2.2).
#ifndef STRAKE_CORE_OPS_ATTENTION_DECODE_ATTENTION_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_DECODE_ATTENTION_CUDA_H_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "core/cuda/portable.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/attention_forward_cuda.h"
#include "core/ops/attention/attention_scores_cuda.h"

namespace strake::cuda {

// The number of tokens before the new ones: `count`, or what `*on_gpu` holds when the kernel runs.
struct PastTokens {
  int64_t count;
  const int32_t* on_gpu;
  __device__ int64_t Get() const { return on_gpu != nullptr ? *on_gpu : count; }
};

inline constexpr int kDecodeWarps = 4;
// Query heads that share a read of their keys. More would leave too few registers for the loads of
// enough blocks.
inline constexpr int kMaxDecodeRows = 4;

// A lane holds kLaneDims elements of a head, so kDims / kLaneDims lanes hold a key: a key's lanes.
inline constexpr int kLaneDims = 8;

template <int kDims>
struct DecodeTile {
  static constexpr int kKeyLanes = kDims / kLaneDims;
  // Keys that a block reads at once, each by the lanes of one key.
  static constexpr int kKeys = kDecodeWarps * kWarpSize / kKeyLanes;
};

// A lane's elements of a row, as floats; zeros past the head's end.
template <typename T>
__device__ __forceinline__ void LoadLaneDims(const T* row, int first, int head_dim, bool aligned,
                                             float (&to)[kLaneDims]) {
  constexpr int kWidth = kVecWidth<T>;
#pragma unroll
  for (int v = 0; v < kLaneDims; v += kWidth) {
    if (aligned && first + v < head_dim) {
      const Vec<T, kWidth> vec = LoadVec<kWidth>(row + first + v);
#pragma unroll
      for (int e = 0; e < kWidth; ++e) to[v + e] = ToFloat(vec.at[e]);
    } else {
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const int d = first + v + e;
        to[v + e] = !aligned && d < head_dim ? ToFloat(row[d]) : 0.0f;
      }
    }
  }
}

// The running softmax of a row over the keys that a key's lanes have seen, and their elements of
// sum(exp(s - maximum) v).
struct DecodeRow {
  float maximum, denominator;
  float sums[kLaneDims];
};

__device__ __forceinline__ void AddKey(float score, const float (&v)[kLaneDims], DecodeRow& row) {
  const float maximum = fmaxf(row.maximum, score);
  const float correction = expf(row.maximum - maximum), weight = expf(score - maximum);
  row.maximum = maximum;
  row.denominator = row.denominator * correction + weight;
#pragma unroll
  for (int d = 0; d < kLaneDims; ++d) row.sums[d] = row.sums[d] * correction + weight * v[d];
}

// Block (row chunk, key/value head, split) attends from up to kRows query heads of a key/value head
// to `split_keys` keys, the split's share of those that the token sees, and writes y and lse of
// those keys alone to y[split] [H*D] and lse[split] [H]. A split without keys writes nothing.
template <typename T, typename Out, int kDims, int kRows>
__global__ void __launch_bounds__(kDecodeWarps* kWarpSize)
    DecodeAttentionKernel(AttentionInputs<T> in, PastTokens past, int64_t split_keys, Out* y,
                          float* lse) {
  using Tile = DecodeTile<kDims>;
  __shared__ Shared<float, Tile::kKeys * kRows> maxima;
  __shared__ Shared<float, Tile::kKeys * kRows> denominators;
  __shared__ Shared<float, Tile::kKeys * kRows * kDims> sums;

  const int chunks = (in.group + kRows - 1) / kRows, kv_heads = in.num_heads / in.group;
  const int chunk = blockIdx.x % chunks, kv_head = blockIdx.x / chunks % kv_heads;
  const int64_t split = blockIdx.x / (chunks * kv_heads);
  const int64_t num_keys = past.Get() + 1;
  const int64_t begin = max(num_keys - in.window, int64_t{0}) + split * split_keys;
  if (begin >= num_keys) return;
  const int64_t end = min(num_keys, begin + split_keys);

  const int first_head = kv_head * in.group + chunk * kRows;
  const int rows = min(kRows, in.group - chunk * kRows);
  const int place = threadIdx.x / Tile::kKeyLanes;  // of this lane's key among the block's
  const int first_dim = threadIdx.x % Tile::kKeyLanes * kLaneDims;
  float q[kRows][kLaneDims];
  DecodeRow state[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int head = first_head + min(r, rows - 1);  // spare rows repeat the last
    LoadLaneDims(in.q + int64_t{head} * in.head_dim, first_dim, in.head_dim, in.aligned, q[r]);
    state[r] = {-INFINITY, 0, {}};
  }

  const int64_t head_at = int64_t{kv_head} * in.head_dim;
  for (int64_t first = begin; first < end; first += Tile::kKeys) {
    const int64_t key = first + place;
    const bool visible = key < end;
    float k[kLaneDims] = {}, v[kLaneDims] = {};
    if (visible) {
      const int64_t at = key * in.kv_stride + head_at;
      LoadLaneDims(in.k + at, first_dim, in.head_dim, in.aligned, k);
      LoadLaneDims(in.v + at, first_dim, in.head_dim, in.aligned, v);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float dot = 0;
#pragma unroll
      for (int d = 0; d < kLaneDims; ++d) dot += q[r][d] * k[d];
      const float score = LimitedScores::Score(in, WarpSum<Tile::kKeyLanes>(dot));
      if (visible) AddKey(score, v, state[r]);
    }
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int at = place * kRows + r;
    if (first_dim == 0) {
      maxima[at] = state[r].maximum;
      denominators[at] = state[r].denominator;
    }
#pragma unroll
    for (int d = 0; d < kLaneDims; ++d) sums[at * kDims + first_dim + d] = state[r].sums[d];
  }
  __syncthreads();
  // A place that saw no key has a maximum of -inf, and so the factor 0.
  for (int i = threadIdx.x; i < rows * kDims; i += kDecodeWarps * kWarpSize) {
    const int r = i / kDims, d = i % kDims;
    float maximum = -INFINITY, total = 0, sum = 0;
    for (int p = 0; p < Tile::kKeys; ++p) maximum = fmaxf(maximum, maxima[p * kRows + r]);
    for (int p = 0; p < Tile::kKeys; ++p) {
      const float factor = expf(maxima[p * kRows + r] - maximum);
      total += denominators[p * kRows + r] * factor;
      sum += sums[(p * kRows + r) * kDims + d] * factor;
    }
    const int64_t head = split * in.num_heads + first_head + r;
    if (d < in.head_dim) y[head * in.head_dim + d] = FromFloat<Out>(sum / total);
    if (d == 0) lse[head] = maximum + logf(total);
  }
}

// Calls launch(std::integral_constant<int, kRows>) for the smallest kRows that holds the group, at
// most kMaxDecodeRows.
template <typename F>
absl::Status WithDecodeRows(int group, F launch) {
  if (group == 1) return launch(std::integral_constant<int, 1>());
  if (group == 2) return launch(std::integral_constant<int, 2>());
  return launch(std::integral_constant<int, kMaxDecodeRows>());
}

// `splits` are all that any `past` may need. `in.aligned` need not hold for y.
template <typename T, typename Out>
absl::Status LaunchDecodeAttention(CudaStream stream, const AttentionInputs<T>& in,
                                   const PastTokens& past, int64_t splits, int64_t split_keys,
                                   Out* y, float* lse) {
  return WithAttentionDims(in.head_dim, [&]<int kDims>(std::integral_constant<int, kDims>) {
    return WithDecodeRows(in.group, [&]<int kRows>(std::integral_constant<int, kRows>) {
      const int64_t chunks = (in.group + kRows - 1) / kRows;
      return Launch<DecodeAttentionKernel<T, Out, kDims, kRows>>(
          stream, chunks * (in.num_heads / in.group) * splits, kDecodeWarps * kWarpSize, 0, in,
          past, split_keys, y, lse);
    });
  });
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_DECODE_ATTENTION_CUDA_H_
