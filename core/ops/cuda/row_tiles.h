// Included by kernels' .cu files: cuts a matrix of vectors into tiles, one per block. A thread
// processes the same column of vectors in each row of the tile, so it loads once what depends on
// the column alone.
#ifndef STRAKE_CORE_OPS_CUDA_ROW_TILES_H_
#define STRAKE_CORE_OPS_CUDA_ROW_TILES_H_

#include "core/cuda/portable.h"

namespace strake::cuda {

inline constexpr int kTileThreads = 256;

// Cuts the columns into chunks of nearly equal width, so that few threads are without a column.
// `rows` is the number of rows per tile.
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

// A thread's place in the tiles. It has no column when vector >= vectors.
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
