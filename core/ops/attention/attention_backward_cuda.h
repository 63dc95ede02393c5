// The backward kernels of causal_attention and partial_attention.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_BACKWARD_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_BACKWARD_CUDA_H_

#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "core/cuda/portable.h"
#include "core/cuda/stream.h"
#include "core/ops/attention/attention_forward_cuda.h"
#include "core/ops/attention/attention_scores_cuda.h"
#include "core/ops/attention/attention_shape.h"
#include "core/ops/attention/attention_tiles_cuda.h"
#include "core/ops/cuda/vectorize.h"

namespace strake::cuda {

inline constexpr int kMeanThreads = 256;
inline constexpr int kMeanRowThreads = 8;  // a head of 64 bf16 is 8 vectors

// mean [B, H, T] = rowsum(dy * y) per head: the mean of dp under p. dy and y are read once.
template <typename T>
__global__ void __launch_bounds__(kMeanThreads)
    AttentionMeanKernel(const T* dy, const T* y, int num_heads, int seq_len, int count,
                        int head_dim, bool aligned, float* mean, const int32_t* only_if) {
  if (only_if != nullptr && *only_if == 0) return;
  constexpr int kWidth = kVecWidth<T>;
  const int64_t unit =
      (int64_t{blockIdx.x} * kMeanThreads + threadIdx.x) / kMeanRowThreads;  // of [B, T, H]
  const int lane = threadIdx.x % kMeanRowThreads;
  float sum = 0;
  if (unit < count) {
    for (int d = lane * kWidth; d < head_dim; d += kMeanRowThreads * kWidth) {
      const int64_t at = unit * head_dim + d;
      const auto a = LoadUpTo<kWidth>(dy + at, head_dim - d, aligned);
      const auto b = LoadUpTo<kWidth>(y + at, head_dim - d, aligned);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += ToFloat(a.at[i]) * ToFloat(b.at[i]);
    }
  }
  sum = WarpSum<kMeanRowThreads>(sum);
  if (unit >= count || lane != 0) return;
  const int64_t row = unit / num_heads, h = unit % num_heads;
  mean[(row / seq_len * num_heads + h) * seq_len + row % seq_len] = sum;
}

template <typename T>
struct BackwardInputs {
  AttentionInputs<T> in;  // aligned: also dy and the gradients
  const T* dy;            // [B*T, H*D]
  const float *lse, *mean;
  // dk and dv are as far from it as k and v from q. Strides are those of q, k and v. Null with
  // PartialScores, which have sums of their own.
  T* dq;
};

// A larger argument makes nvcc 13.0 load tiles by one loop, which asks of every row whether it is
// aligned, instead of by two.
static_assert(sizeof(BackwardInputs<float>) <= 128);

// p from q.k, and the gradient of a score.
template <typename Form, typename T>
__device__ __forceinline__ float Softmax(const AttentionInputs<T>& in, bool visible, float product,
                                         float lse) {
  return visible ? expf(Form::Score(in, product) - lse) : 0;
}
__device__ __forceinline__ float ScoreGradient(bool visible, float p, float dp, float mean) {
  return visible ? p * (dp - mean) : 0;
}

// A block owns queries of one head, and streams keys: dq = scale sum_j ds[i,j] k[j].
template <typename T, int kDims, typename Form>
__global__ void __launch_bounds__(AttentionTiles<kDims>::kThreads,
                                  AttentionTiles<kDims>::kMinBlocks)
    QueryGradientKernel(BackwardInputs<T> inputs, Form form) {
  if (!form.Runs()) return;
  using Tiles = AttentionTiles<kDims>;
  const auto q_tile = DynamicShared<float>();
  const auto dy_tile = DynamicShared<float>(Tiles::kOwnedBytes);
  const auto k_tile = DynamicShared<float>(2 * Tiles::kOwnedBytes);
  const auto v_tile = DynamicShared<float>(2 * Tiles::kOwnedBytes + Tiles::kStreamedBytes);
  const auto buffer = DynamicShared<float>(2 * (Tiles::kOwnedBytes + Tiles::kStreamedBytes));

  const AttentionInputs<T>& in = inputs.in;
  const int heads = in.batch * in.num_heads, seq_len = in.num_queries;
  const int head = blockIdx.x % heads;
  const int first = (gridDim.x - 1 - blockIdx.x) / heads * Tiles::kRows;  // the longest first
  const int b = head / in.num_heads, h = head % in.num_heads;
  // Queries and keys of whole sequences begin together.
  const int past = Form::kPartial ? in.past : 0;
  const int num_keys = Form::kPartial ? form.NumKeys(in) : seq_len;
  const int64_t first_row = form.QueryRow(in, int64_t{b}) + first;
  const int64_t q_at = first_row * in.q_stride + h * in.head_dim;
  const int64_t kv_at =
      form.KeyRow(int64_t{b}, num_keys) * in.kv_stride + h / in.group * in.head_dim;
  const int64_t y_stride = int64_t{in.num_heads} * in.head_dim;

  LoadTile<kDims, Tiles::kRows>(in.q + q_at, in.q_stride, seq_len - first, in.head_dim, in.aligned,
                                q_tile);
  LoadTile<kDims, Tiles::kRows>(inputs.dy + first_row * y_stride + h * in.head_dim, y_stride,
                                seq_len - first, in.head_dim, in.aligned, dy_tile);
  float lse[kThreadRows] = {}, mean[kThreadRows] = {};
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = first + FirstThreadRow() + i;
    if (row >= seq_len) continue;
    lse[i] = inputs.lse[form.LseAt(in, int64_t{head}) + row];
    mean[i] = inputs.mean[form.LseAt(in, int64_t{head}) + row];
  }

  ThreadSums<kDims> dq = {};
  const int key_end = min(past + first + Tiles::kRows, num_keys);
  for (int key = form.FirstKey(in, b, past + first); key < key_end; key += Tiles::kColumns) {
    const int64_t at = kv_at + key * in.kv_stride;
    __syncthreads();  // the last tiles have been read
    LoadTile<kDims, Tiles::kColumns>(in.k + at, in.kv_stride, num_keys - key, in.head_dim,
                                     in.aligned, k_tile);
    LoadTile<kDims, Tiles::kColumns>(in.v + at, in.kv_stride, num_keys - key, in.head_dim,
                                     in.aligned, v_tile);
    __syncthreads();
    const ThreadScores<kDims> scores = MultiplyTiles<kDims>(q_tile, k_tile, in.head_dim);
    ThreadScores<kDims> ds = MultiplyTiles<kDims>(dy_tile, v_tile, in.head_dim);
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < Tiles::kThreadColumns; ++j) {
        const bool visible = Sees(form, in, b, past + first + FirstThreadRow() + i,
                                  key + RowThread() + j * kRowThreads);
        const float p = Softmax<Form>(in, visible, scores.at[i][j], lse[i]);
        const float slope = Form::Slope(in, p, lse[i]);
        ds.at[i][j] = ScoreGradient(visible, p * slope, ds.at[i][j], mean[i]);
      }
    }
    AddProduct(ds, buffer, k_tile, dq);
  }
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = FirstThreadRow() + i;
    if (first + row >= seq_len) continue;
    if constexpr (Form::kPartial) {
      AddThreadRow(dq, i, in.scale, in.head_dim,
                   form.dq + (first_row + row) * y_stride + h * in.head_dim);
    } else {
      StoreThreadRow(dq, i, in.scale, in.head_dim, in.aligned,
                     inputs.dq + q_at + row * in.q_stride);
    }
  }
}

// A block owns keys of one key/value head, and streams the queries of its group's heads, one head
// after the other: dk = scale sum_i ds[i,j] q[i], dv = sum_i p[i,j] dy[i]. Here scores have one row
// per key.
template <typename T, int kDims, typename Form>
__global__ void __launch_bounds__(AttentionTiles<kDims>::kThreads,
                                  AttentionTiles<kDims>::kMinBlocks)
    KeyValueGradientKernel(BackwardInputs<T> inputs, Form form) {
  if (!form.Runs()) return;
  using Tiles = AttentionTiles<kDims>;
  const auto k_tile = DynamicShared<float>();
  const auto v_tile = DynamicShared<float>(Tiles::kOwnedBytes);
  const auto q_tile = DynamicShared<float>(2 * Tiles::kOwnedBytes);
  const auto dy_tile = DynamicShared<float>(2 * Tiles::kOwnedBytes + Tiles::kStreamedBytes);
  const auto buffer = DynamicShared<float>(2 * (Tiles::kOwnedBytes + Tiles::kStreamedBytes));

  const AttentionInputs<T>& in = inputs.in;
  const int kv_heads = in.num_heads / in.group, seq_len = in.num_queries;
  const int head = blockIdx.x % (in.batch * kv_heads);
  const int first = blockIdx.x / (in.batch * kv_heads) * Tiles::kRows;  // the longest first
  const int b = head / kv_heads, kv_head = head % kv_heads;
  const int past = Form::kPartial ? in.past : 0;
  const int num_keys = Form::kPartial ? form.NumKeys(in) : seq_len;
  // 32 bits hold what numbers rows, and registers have no room for more.
  const int64_t kv_at = (form.KeyRow(b, num_keys) + first) * in.kv_stride + kv_head * in.head_dim;
  const int64_t y_stride = int64_t{in.num_heads} * in.head_dim;

  LoadTile<kDims, Tiles::kRows>(in.k + kv_at, in.kv_stride, num_keys - first, in.head_dim,
                                in.aligned, k_tile);
  LoadTile<kDims, Tiles::kRows>(in.v + kv_at, in.kv_stride, num_keys - first, in.head_dim,
                                in.aligned, v_tile);
  ThreadSums<kDims> dk = {}, dv = {};
  const int last = first + Tiles::kRows - 1;
  for (int h = kv_head * in.group; h < (kv_head + 1) * in.group; ++h) {
    const int lse_at = form.LseAt(in, b * in.num_heads + h);
    // The first query that sees a key of the tile.
    for (int query = Form::kPartial ? max(first - past, 0) : first;
         query < seq_len && form.Reaches(in, b, past + query, last); query += Tiles::kColumns) {
      const int64_t row = form.QueryRow(in, b) + query;
      __syncthreads();  // the last tiles have been read
      LoadTile<kDims, Tiles::kColumns>(in.q + row * in.q_stride + h * in.head_dim, in.q_stride,
                                       seq_len - query, in.head_dim, in.aligned, q_tile);
      LoadTile<kDims, Tiles::kColumns>(inputs.dy + row * y_stride + h * in.head_dim, y_stride,
                                       seq_len - query, in.head_dim, in.aligned, dy_tile);
      __syncthreads();
      const auto visible = [&](int i, int position) {
        return position < seq_len &&
               Sees(form, in, b, past + position, first + FirstThreadRow() + i);
      };
      ThreadScores<kDims> scores = MultiplyTiles<kDims>(k_tile, q_tile, in.head_dim);
#pragma unroll
      for (int j = 0; j < Tiles::kThreadColumns; ++j) {
        const int position = query + RowThread() + j * kRowThreads;
        const float lse = position < seq_len ? inputs.lse[lse_at + position] : 0;
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
          scores.at[i][j] = Softmax<Form>(in, visible(i, position), scores.at[i][j], lse);
        }
      }
      AddProduct(scores, buffer, dy_tile, dv);
      if (Form::HasSlope(in)) {
        __syncwarp();  // all have read p
// One go does not fit into the registers.
#pragma unroll 1
        for (int j = 0; j < Tiles::kThreadColumns; ++j) {
          const int position = query + RowThread() + j * kRowThreads;
          const float lse = position < seq_len ? inputs.lse[lse_at + position] : 0;
#pragma unroll 1
          for (int i = 0; i < kThreadRows; ++i) {
            const float p = buffer[ScorePlace<kDims>(i, j)];
            buffer[ScorePlace<kDims>(i, j)] = p * Form::Slope(in, p, lse);
          }
        }
      }
      // Takes p back from the buffer: registers do not hold it beside the product.
      scores = MultiplyTiles<kDims>(v_tile, dy_tile, in.head_dim);
#pragma unroll
      for (int j = 0; j < Tiles::kThreadColumns; ++j) {
        const int position = query + RowThread() + j * kRowThreads;
        const float mean = position < seq_len ? inputs.mean[lse_at + position] : 0;
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
          const float p = buffer[ScorePlace<kDims>(i, j)];
          const bool seen = Form::kSeenByP ? p != 0 : visible(i, position);
          scores.at[i][j] = ScoreGradient(seen, p, scores.at[i][j], mean);
        }
      }
      AddProduct(scores, buffer, q_tile, dk);
    }
  }
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = FirstThreadRow() + i;
    if (first + row >= num_keys) continue;
    // Not from kv_at, which would take two registers until here.
    const int key_row = form.KeyRow(b, num_keys) + first + row;
    if constexpr (Form::kPartial) {
      const int64_t at = key_row * form.dkv_stride + kv_head * in.head_dim;
      AddThreadRow(dk, i, in.scale, in.head_dim, form.dk + at);
      AddThreadRow(dv, i, 1, in.head_dim, form.dv + at);
    } else {
      const int64_t at = key_row * in.kv_stride + kv_head * in.head_dim;
      StoreThreadRow(dk, i, in.scale, in.head_dim, in.aligned, inputs.dq + (in.k - in.q) + at);
      StoreThreadRow(dv, i, 1, in.head_dim, in.aligned, inputs.dq + (in.v - in.q) + at);
    }
  }
}

template <typename T>
absl::Status LaunchMean(CudaStream stream, const T* dy, const T* y, const AttentionShape& shape,
                        float* mean, const int32_t* only_if) {
  const int64_t count = shape.batch * shape.seq_len * shape.num_heads;
  constexpr int kUnits = kMeanThreads / kMeanRowThreads;
  return Launch<AttentionMeanKernel<T>>(stream, (count + kUnits - 1) / kUnits, kMeanThreads, 0, dy,
                                        y, shape.num_heads, shape.seq_len, count, shape.head_dim,
                                        Vectorizes<T>(shape.head_dim, {dy, y}), mean, only_if);
}

template <typename T, typename Form>
absl::Status LaunchAttentionBackward(CudaStream stream, const BackwardInputs<T>& inputs, Form form,
                                     int num_keys) {
  const AttentionInputs<T>& in = inputs.in;
  return WithAttentionDims(in.head_dim, [&]<int kDims>(std::integral_constant<int, kDims>) {
    using Tiles = AttentionTiles<kDims>;
    constexpr int kBytes = 2 * (Tiles::kOwnedBytes + Tiles::kStreamedBytes) + Tiles::kScoreBytes;
    const int tiles = AttentionTileCount(in.num_queries, Tiles::kRows);
    const absl::Status launched = Launch<QueryGradientKernel<T, kDims, Form>>(
        stream, tiles * in.batch * in.num_heads, Tiles::kThreads, kBytes, inputs, form);
    if (!launched.ok()) return launched;
    const int key_tiles = AttentionTileCount(num_keys, Tiles::kRows);
    return Launch<KeyValueGradientKernel<T, kDims, Form>>(
        stream, key_tiles * in.batch * (in.num_heads / in.group), Tiles::kThreads, kBytes, inputs,
        form);
  });
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_BACKWARD_CUDA_H_
