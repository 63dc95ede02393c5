// Products of tiles in shared memory, the building blocks of attention's kernels.
//
// A block owns kRows rows of heads (queries, or keys) and streams the rows of the other kind past
// them, kColumns at a time. Of the scores [kRows, kColumns] a thread computes 4 rows, and every
// 16th column of them; of a product with the streamed tile, the same 4 rows and 4 of every 64
// dimensions. So the 16 threads of a row lie in one warp, and scores that pass through shared
// memory need no block-wide barrier.
#ifndef STRAKE_CORE_OPS_ATTENTION_ATTENTION_TILES_CUDA_H_
#define STRAKE_CORE_OPS_ATTENTION_ATTENTION_TILES_CUDA_H_

#include <cstdint>
#include <type_traits>

#include "core/cuda/portable.h"

namespace strake::cuda {

inline constexpr int kThreadRows = 4;
inline constexpr int kRowThreads = 16;
inline constexpr int kMaxAttentionHeadDim = 256;

// kDims is the head size rounded up to 64, 128 or 256. Tiles are f32, zero where there is no data.
// With four tiles and the scores, two blocks fit into 227 KB at 64 and 128, and one into the 163 KB
// of sm_80 at 256. Four floats of padding put the rows that a quarter-warp reads into different
// banks.
template <int kDims>
struct AttentionTiles {
  static constexpr int kRows = kDims > 128 ? 32 : 64;
  static constexpr int kColumns = kDims > 64 ? 32 : 64;
  static constexpr int kThreads = kRows / kThreadRows * kRowThreads;
  static constexpr int kMinBlocks = kDims > 128 ? 1 : 2;
  static constexpr int kThreadColumns = kColumns / kRowThreads;
  static constexpr int kThreadVectors = kDims / (4 * kRowThreads);
  static constexpr int kStride = kDims + 4;
  static constexpr int kScoreStride = kColumns + 4;
  static constexpr int kOwnedBytes = kRows * kStride * 4;
  static constexpr int kStreamedBytes = kColumns * kStride * 4;
  static constexpr int kScoreBytes = kRows * kScoreStride * 4;
};

// A thread's share of the scores, and of a product with a streamed tile.
template <int kDims>
struct ThreadScores {
  float at[kThreadRows][AttentionTiles<kDims>::kThreadColumns];
};
template <int kDims>
struct ThreadSums {
  Vec<float, 4> at[kThreadRows][AttentionTiles<kDims>::kThreadVectors];
};

__device__ inline int FirstThreadRow() { return threadIdx.x / kRowThreads * kThreadRows; }
__device__ inline int RowThread() { return threadIdx.x % kRowThreads; }

// The sum, or maximum, over the 16 threads of a row; every one of them gets it.
__device__ inline float RowSum(float value) { return WarpSum<kRowThreads>(value); }
__device__ inline float RowMax(float value) {
#pragma unroll
  for (int distance = kRowThreads / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, distance));
  }
  return value;
}

// Loads kWidth elements starting at `from`, zero beyond `count`.
template <int kWidth, typename T>
__device__ __forceinline__ Vec<T, kWidth> LoadUpTo(const T* from, int count, bool aligned) {
  if (aligned && count >= kWidth) return LoadVec<kWidth>(from);
  Vec<T, kWidth> values = {};
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if (i < count) values.at[i] = from[i];
  }
  return values;
}

// tile [kCount, kDims] = rows of `from`, `stride` apart, of which `rows` exist.
template <int kDims, int kCount, typename T, typename SharedFloats>
__device__ __forceinline__ void LoadTile(const T* from, int64_t stride, int rows, int head_dim,
                                         bool aligned, SharedFloats tile) {
  using Tiles = AttentionTiles<kDims>;
  constexpr int kWidth = kVecWidth<T>, kRowVectors = kDims / kWidth;
#pragma unroll 4
  for (int v = threadIdx.x; v < kCount * kRowVectors; v += Tiles::kThreads) {
    const int row = v / kRowVectors, d = v % kRowVectors * kWidth;
    Vec<T, kWidth> values = {};
    if (row < rows) values = LoadUpTo<kWidth>(from + row * stride + d, head_dim - d, aligned);
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      Vec<float, 4> part;
#pragma unroll
      for (int e = 0; e < 4; ++e) part.at[e] = ToFloat(values.at[i + e]);
      StoreVec(tile + row * Tiles::kStride + d + i, part);
    }
  }
}

// owned [kRows, kDims] streamed^T [kDims, kColumns]
template <int kDims, typename SharedFloats>
__device__ __forceinline__ ThreadScores<kDims> MultiplyTiles(SharedFloats owned,
                                                             SharedFloats streamed, int head_dim) {
  using Tiles = AttentionTiles<kDims>;
  ThreadScores<kDims> scores = {};
// Two at once do not fit into the registers of the gradients' kernels.
#pragma unroll 1
  for (int d = 0; d < head_dim; d += 4) {
    Vec<float, 4> x[kThreadRows], y[Tiles::kThreadColumns];
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      x[i] = LoadVec<4>(owned + (FirstThreadRow() + i) * Tiles::kStride + d);
    }
#pragma unroll
    for (int j = 0; j < Tiles::kThreadColumns; ++j) {
      y[j] = LoadVec<4>(streamed + (RowThread() + j * kRowThreads) * Tiles::kStride + d);
    }
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < Tiles::kThreadColumns; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) scores.at[i][j] += x[i].at[e] * y[j].at[e];
      }
    }
  }
  return scores;
}

// The place of the thread's score [i][j] in the buffer of AddProduct().
template <int kDims>
__device__ __forceinline__ int ScorePlace(int i, int j) {
  return (FirstThreadRow() + i) * AttentionTiles<kDims>::kScoreStride + RowThread() +
         j * kRowThreads;
}

// sums += scores [kRows, kColumns] streamed [kColumns, kDims]. `buffer` holds the scores in
// between.
template <int kDims, typename SharedFloats>
__device__ __forceinline__ void AddProduct(const ThreadScores<kDims>& scores, SharedFloats buffer,
                                           SharedFloats streamed, ThreadSums<kDims>& sums) {
  using Tiles = AttentionTiles<kDims>;
  const auto rows = buffer + FirstThreadRow() * Tiles::kScoreStride;
  __syncwarp();  // the scores before these have been read
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
    for (int j = 0; j < Tiles::kThreadColumns; ++j) {
      buffer[ScorePlace<kDims>(i, j)] = scores.at[i][j];
    }
  }
  __syncwarp();
#pragma unroll 2
  for (int j = 0; j < Tiles::kColumns; j += 4) {
    Vec<float, 4> weights[kThreadRows];
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      weights[i] = LoadVec<4>(rows + i * Tiles::kScoreStride + j);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int c = 0; c < Tiles::kThreadVectors; ++c) {
        const Vec<float, 4> x =
            LoadVec<4>(streamed + (j + k) * Tiles::kStride + 4 * (RowThread() + c * kRowThreads));
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums.at[i][c].at[e] += weights[i].at[k] * x.at[e];
        }
      }
    }
  }
}

// Writes row i of the thread's 4, times `scale`, to the head's row at `to`.
template <int kDims, typename T>
__device__ __forceinline__ void StoreThreadRow(const ThreadSums<kDims>& sums, int i, float scale,
                                               int head_dim, bool aligned, T* to) {
#pragma unroll
  for (int c = 0; c < AttentionTiles<kDims>::kThreadVectors; ++c) {
    const int d = 4 * (RowThread() + c * kRowThreads);
    Vec<float, 4> values = sums.at[i][c];
#pragma unroll
    for (int e = 0; e < 4; ++e) values.at[e] *= scale;
    if constexpr (std::is_same_v<T, float>) {
      if (aligned && d + 4 <= head_dim) {
        StoreVec(to + d, values);
        continue;
      }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (d + e < head_dim) to[d + e] = FromFloat<T>(values.at[e]);
    }
  }
}

// Adds row i of the thread's 4, times `scale`, to the head's row at `to`.
template <int kDims>
__device__ __forceinline__ void AddThreadRow(const ThreadSums<kDims>& sums, int i, float scale,
                                             int head_dim, float* to) {
#pragma unroll
  for (int c = 0; c < AttentionTiles<kDims>::kThreadVectors; ++c) {
    const int d = 4 * (RowThread() + c * kRowThreads);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (d + e < head_dim) to[d + e] += sums.at[i][c].at[e] * scale;
    }
  }
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_ATTENTION_ATTENTION_TILES_CUDA_H_
