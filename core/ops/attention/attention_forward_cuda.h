// The forward kernel of causal_attention, cached_attention and partial_attention, over tiles of
// queries.
//
// Memory traffic: q and y once; k and v once per tile of queries and query head. After the first
// read k and v mostly come from L2, since the blocks of a group's heads run side by side.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_FORWARD_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_FORWARD_CUDA_H_

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/cuda/portable.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/attention_scores_cuda.h"
#include "core/ops/attention/attention_tiles_cuda.h"

namespace strake::cuda {

// Calls launch(std::integral_constant<int, kDims>) for the smallest kDims that holds the head.
template <typename F>
absl::Status WithAttentionDims(int64_t head_dim, F launch) {
  if (head_dim > kMaxAttentionHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat("attention on CUDA: head_dim ", head_dim,
                                                   " is more than ", kMaxAttentionHeadDim));
  }
  if (head_dim <= 64) return launch(std::integral_constant<int, 64>());
  if (head_dim <= 128) return launch(std::integral_constant<int, 128>());
  return launch(std::integral_constant<int, 256>());
}

// The running softmax of a thread's 4 rows: each row's maximum, and the thread's part of the sum of
// exp(s - maximum). Replaces products q.k by exp(s - maximum), or by zero for keys that the row's
// query does not see, and rescales sums that were taken under an earlier maximum.
template <typename Form, typename T, int kDims>
__device__ __forceinline__ void OnlineSoftmax(const Form& form, const AttentionInputs<T>& in,
                                              int batch, int first_position, int first_key,
                                              ThreadScores<kDims>& scores, float (&maximum)[4],
                                              float (&denominator)[4], ThreadSums<kDims>& sums) {
  using Tiles = AttentionTiles<kDims>;
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int position = first_position + FirstThreadRow() + i;
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < Tiles::kThreadColumns; ++j) {
      const bool visible =
          Sees(form, in, batch, position, first_key + RowThread() + j * kRowThreads);
      scores.at[i][j] = visible ? Form::Score(in, scores.at[i][j]) : -INFINITY;
      largest = fmaxf(largest, scores.at[i][j]);
    }
    largest = fmaxf(maximum[i], RowMax(largest));
    const float shift = largest == -INFINITY ? 0 : largest;  // no key is visible yet
    const float correction = expf(maximum[i] - shift);
    maximum[i] = largest;
    denominator[i] *= correction;
#pragma unroll
    for (int j = 0; j < Tiles::kThreadColumns; ++j) {
      scores.at[i][j] = expf(scores.at[i][j] - shift);
      denominator[i] += scores.at[i][j];
    }
#pragma unroll
    for (int c = 0; c < Tiles::kThreadVectors; ++c) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums.at[i][c].at[e] *= correction;
    }
  }
}

// Sets the running softmax of a thread's rows to that of the keys of which y and lse are.
template <typename Form, typename T, typename Out, int kDims>
__device__ __forceinline__ void Resume(const Form& form, const AttentionInputs<T>& in, int head,
                                       int first, int64_t first_row, const Out* y, const float* lse,
                                       float (&maximum)[4], float (&denominator)[4],
                                       ThreadSums<kDims>& sums) {
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = FirstThreadRow() + i;
    if (first + row >= in.num_queries) continue;
    maximum[i] = lse[form.LseAt(in, int64_t{head}) + first + row];
    denominator[i] = RowThread() == 0 && maximum[i] != -INFINITY;
    const Out* const from =
        y + ((first_row + row) * in.num_heads + head % in.num_heads) * in.head_dim;
#pragma unroll
    for (int c = 0; c < AttentionTiles<kDims>::kThreadVectors; ++c) {
      const int d = 4 * (RowThread() + c * kRowThreads);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (d + e < in.head_dim) sums.at[i][c].at[e] = ToFloat(from[d + e]);
      }
    }
  }
}

// Split s of `splits` processes keys [s * split_keys, (s + 1) * split_keys), and writes y and lse
// of those keys alone to y[s] [B*N, H*D] and lse[s] [B, H, N]. Where a query sees no key, lse is
// -inf and y is zero. Reads no tile of keys that no query of the block sees. The blocks with the
// most keys come first.
template <typename T, typename Out, int kDims, typename Form>
__global__ void __launch_bounds__(AttentionTiles<kDims>::kThreads,
                                  AttentionTiles<kDims>::kMinBlocks)
    AttentionForwardKernel(AttentionInputs<T> in, int splits, int split_keys, Out* y, float* lse,
                           Form form) {
  if (!form.Runs()) return;
  using Tiles = AttentionTiles<kDims>;
  const auto q_tile = DynamicShared<float>();
  const auto k_tile = DynamicShared<float>(Tiles::kOwnedBytes);
  const auto v_tile = DynamicShared<float>(Tiles::kOwnedBytes + Tiles::kStreamedBytes);
  const auto buffer = DynamicShared<float>(Tiles::kOwnedBytes + 2 * Tiles::kStreamedBytes);

  const int heads = in.batch * in.num_heads;
  const int head = blockIdx.x % heads, split = blockIdx.x / heads % splits;
  const int tile = (gridDim.x - 1 - blockIdx.x) / (heads * splits);
  const int b = head / in.num_heads, h = head % in.num_heads;
  const int first = tile * Tiles::kRows;
  const int64_t first_row = form.QueryRow(in, int64_t{b}) + first;
  const int num_keys = form.NumKeys(in);
  const int64_t kv_at =
      form.KeyRow(int64_t{b}, num_keys) * in.kv_stride + h / in.group * in.head_dim;
  const int key_end = min(min(in.past + first + Tiles::kRows, num_keys), (split + 1) * split_keys);

  LoadTile<kDims, Tiles::kRows>(in.q + first_row * in.q_stride + h * in.head_dim, in.q_stride,
                                in.num_queries - first, in.head_dim, in.aligned, q_tile);
  float maximum[kThreadRows], denominator[kThreadRows] = {};
#pragma unroll
  for (float& m : maximum) m = -INFINITY;
  ThreadSums<kDims> sums = {};
  if constexpr (Form::kPartial) {
    if (form.merge) Resume(form, in, head, first, first_row, y, lse, maximum, denominator, sums);
  }
  int key = max(split * split_keys, form.FirstKey(in, b, in.past + first));
  for (; key < key_end; key += Tiles::kColumns) {
    const int64_t at = kv_at + key * in.kv_stride;
    __syncthreads();  // the last tiles have been read
    LoadTile<kDims, Tiles::kColumns>(in.k + at, in.kv_stride, num_keys - key, in.head_dim,
                                     in.aligned, k_tile);
    LoadTile<kDims, Tiles::kColumns>(in.v + at, in.kv_stride, num_keys - key, in.head_dim,
                                     in.aligned, v_tile);
    __syncthreads();
    ThreadScores<kDims> scores = MultiplyTiles<kDims>(q_tile, k_tile, in.head_dim);
    OnlineSoftmax(form, in, b, in.past + first, key, scores, maximum, denominator, sums);
    AddProduct(scores, buffer, v_tile, sums);
  }

#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = FirstThreadRow() + i;
    const float total = RowSum(denominator[i]);
    if (first + row >= in.num_queries) continue;
    const int64_t rows_before = int64_t{split} * in.batch * in.num_queries;
    StoreThreadRow(sums, i, total == 0 ? 0 : 1 / total, in.head_dim, in.aligned,
                   y + ((rows_before + first_row + row) * in.num_heads + h) * in.head_dim);
    if (RowThread() == 0) {
      lse[(rows_before * in.num_heads) + form.LseAt(in, int64_t{head}) + first + row] =
          maximum[i] + logf(total);
    }
  }
}

inline int AttentionTileCount(int64_t rows, int64_t tile_rows) {
  return (rows + tile_rows - 1) / tile_rows;
}

// `in.aligned` must hold for y too.
template <typename T, typename Out, typename Form>
absl::Status LaunchAttentionForward(CudaStream stream, const AttentionInputs<T>& in, Form form,
                                    int splits, int split_keys, Out* y, float* lse) {
  return WithAttentionDims(in.head_dim, [&]<int kDims>(std::integral_constant<int, kDims>) {
    using Tiles = AttentionTiles<kDims>;
    const int tiles = AttentionTileCount(in.num_queries, Tiles::kRows);
    return Launch<AttentionForwardKernel<T, Out, kDims, Form>>(
        stream, tiles * splits * in.batch * in.num_heads, Tiles::kThreads,
        Tiles::kOwnedBytes + 2 * Tiles::kStreamedBytes + Tiles::kScoreBytes, in, splits, split_keys,
        y, lse, form);
  });
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_FORWARD_CUDA_H_
