// Part of kernels' .cu files: cuts a matrix of vectors into tiles, one per block. A thread has one
// vector's column, in each row of the tile, so that what depends on the column is loaded once.
#ifndef STRAKE_CORE_OPS_CUDA_ROW_TILES_H_
#define STRAKE_CORE_OPS_CUDA_ROW_TILES_H_

#include "core/cuda/portable.h"

namespace strake::cuda {

inline constexpr int kTileThreads = 256;

// The columns are cut into chunks of nearly equal width, so that few threads are without one.
// `rows` are those of tiles.
struct RowTiles {
  RowTiles(int64_t rows, int64_t vectors) {
    const int64_t chunks = (vectors + kTileThreads - 1) / kTileThreads;
    const int64_t vectors_per_chunk = (vectors + chunks - 1) / chunks;
    threads = (vectors_per_chunk + kWarpSize - 1) / kWarpSize * kWarpSize;
    blocks = rows * chunks;
  }
  int64_t blocks;
  int threads;
};

// Where a thread is. It has no column when vector >= vectors.
struct TilePlace {
  int row, vector;
};

__device__ __forceinline__ TilePlace ThisTile(int vectors) {
  const unsigned chunks = (vectors + blockDim.x - 1) / blockDim.x;
  return {static_cast<int>(blockIdx.x / chunks),
          static_cast<int>(blockIdx.x % chunks * blockDim.x + threadIdx.x)};
}

}  // namespace strake::cuda

#endif  // STRAKE_CORE_OPS_CUDA_ROW_TILES_H_
